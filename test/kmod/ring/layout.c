// SPDX-License-Identifier: GPL-2.0-or-later
/* Descriptor chains of every shape, well-formed and not. */
#define _GNU_SOURCE
#include "ring.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE (4 * MIB)

static struct vm *vm_on(const struct backend *backend, uint64_t features)
{
	struct vm *vm = vm_open(1, features);

	EQUAL(vm_configure(vm, SIZE, 0, 0), 0, "SET_CONFIG");
	EQUAL(vm_backend(vm, 0, backend_open(backend, SIZE)), 0, "SET_BACKEND");
	return vm;
}

static void fill(const struct backend *backend, uint8_t *want, size_t length)
{
	int fd = backend->block ? open(test_block, O_RDWR | O_CLOEXEC) : open_image("image", O_RDWR);

	pattern(want, length, 7);
	CHECK(pwrite(fd, want, length, 0) == (ssize_t)length && !fsync(fd), "filling the backend");
	close(fd);
}

/*
 * Reads length bytes from sector 0 into buffers of the given sizes (the last takes the rest) from address on, the
 * header cut in head_parts, the status byte in the last data buffer if shared. Then writes them back one sector
 * later.
 */
static void shape(const struct backend *backend, uint64_t address, const uint32_t *sizes, unsigned int count,
		  unsigned int head_parts, bool shared, uint64_t indirect)
{
	struct vm *vm = vm_on(backend, FEATURES);
	struct vring_used_elem used;
	uint8_t want[64 * KIB], got[64 * KIB];
	struct seg segs[128];
	unsigned int n = 0, first_data;
	uint32_t length = 0;
	uint64_t at = address;

	for (unsigned int i = 0; i < count; i++)
		length += sizes[i];
	fill(backend, want, length);
	for (unsigned int i = 0; i < head_parts; i++)
		segs[n++] = (struct seg){ header_address(0, 0) + i * 16 / head_parts,
					  (i + 1) * 16 / head_parts - i * 16 / head_parts, false };
	first_data = n;
	for (unsigned int i = 0; i < count; at += sizes[i++])
		segs[n++] = (struct seg){ at, sizes[i], true };
	if (shared)
		segs[n - 1].length++;
	else
		segs[n++] = (struct seg){ at, 1, true };

	put_header(vm, header_address(0, 0), VIRTIO_BLK_T_IN, 0);
	*(uint8_t *)guest(vm, at) = 0xee;
	submit(vm, 0, segs, n, indirect);
	kick(vm, 0);
	used = must_reap(vm, 0);
	EQUAL(*(uint8_t *)guest(vm, at), VIRTIO_BLK_S_OK, backend->name);
	EQUAL(used.len, length + 1, "used.len");
	guest_read(vm, address, got, length);
	CHECK(!memcmp(got, want, length), "%s: the read data are others", backend->name);

	put_header(vm, header_address(0, 0), VIRTIO_BLK_T_OUT, 1);
	for (unsigned int i = first_data; i < n; i++)
		segs[i].writable = false;
	if (shared)
		segs[n - 1].length--;
	else
		n--;
	segs[n++] = (struct seg){ at, 1, true };
	*(uint8_t *)guest(vm, at) = 0xee;
	submit(vm, 0, segs, n, indirect);
	kick(vm, 0);
	used = must_reap(vm, 0);
	EQUAL(*(uint8_t *)guest(vm, at), VIRTIO_BLK_S_OK, backend->name);
	EQUAL(used.len, 1, "used.len of a write");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK, "flush");
	backend_read(backend, 512, got, length);
	CHECK(!memcmp(got, want, length), "%s: the written data are others", backend->name);
	vm_close(vm);
}

static void on_all(uint64_t address, const uint32_t *sizes, unsigned int count, unsigned int head_parts, bool shared,
		   uint64_t indirect)
{
	for (int b = 0; b < 4; b++)
		shape(&backends[b], address, sizes, count, head_parts, shared, indirect);
}

static void split_header(void)
{
	on_all(DATA, (const uint32_t[]){ 4096 }, 1, 2, false, 0);
	on_all(DATA, (const uint32_t[]){ 4096 }, 1, 16, false, 0);
}

static void shared_status(void)
{
	on_all(DATA, (const uint32_t[]){ 4096 }, 1, 1, true, 0);
	on_all(DATA, (const uint32_t[]){ 4096, 512, 8192 }, 3, 3, true, 0);
}

static void indirect(void)
{
	on_all(DATA, (const uint32_t[]){ 4096, 4096, 512 }, 3, 1, false, GUEST_BASE + 3 * MIB);
	on_all(DATA, (const uint32_t[]){ 4096 }, 1, 2, true, GUEST_BASE + 3 * MIB);
}

static void long_chain(void)
{
	uint32_t sizes[100];

	for (int i = 0; i < 100; i++)
		sizes[i] = 512;
	on_all(DATA, sizes, 100, 1, false, 0);
	on_all(DATA, sizes, 100, 1, false, GUEST_BASE + 3 * MIB);
}

static void misaligned(void)
{
	on_all(DATA + 1, (const uint32_t[]){ 4096 }, 1, 1, false, 0);
	on_all(DATA + 2, (const uint32_t[]){ 100, 412, 1000, 1048, 24 * 1024 }, 5, 1, true, 0);
	on_all(DATA + 511, (const uint32_t[]){ 63 * 1024 }, 1, 1, false, 0);
}

static void across_regions(void)
{
	on_all(BORDER - 4096, (const uint32_t[]){ 16384 }, 1, 1, false, 0);
	on_all(BORDER - 100, (const uint32_t[]){ 16384 }, 1, 1, true, 0);
}

static int status_of(struct vm *vm, struct seg *segs, unsigned int count, uint32_t *length)
{
	struct vring_used_elem used;

	*(uint8_t *)guest(vm, status_address(0, 0)) = 0xee;
	submit(vm, 0, segs, count, 0);
	kick(vm, 0);
	used = must_reap(vm, 0);
	*length = used.len;
	return *(uint8_t *)guest(vm, status_address(0, 0));
}

static void unknown_type(void)
{
	struct vm *vm = vm_on(&backends[0], FEATURES);

	EQUAL(request(vm, 0, VIRTIO_BLK_T_SCSI_CMD, 0, 0, 0), VIRTIO_BLK_S_UNSUPP, "SCSI command");
	EQUAL(request(vm, 0, 0x7fffffff, 0, 0, 0), VIRTIO_BLK_S_UNSUPP, "an unknown type");
	EQUAL(request(vm, 0, 0x80000001, 0, DATA, 512), VIRTIO_BLK_S_UNSUPP, "a type with the barrier bit");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_DISCARD, 0, DATA, 16), VIRTIO_BLK_S_UNSUPP, "discard, not negotiated");
	EQUAL(vm_stats(vm, 0).others, 4, "others");
	EQUAL(vm_stats(vm, 0).errors, 4, "errors");
}

/* Chains that can't be answered, or not well: each comes back, and the next request works. */
static void malformed(void)
{
	struct vm *vm = vm_on(&backends[1], FEATURES);
	const struct seg header = { header_address(0, 0), 16, false }, status = { status_address(0, 0), 1, true };
	uint32_t length;

	put_header(vm, header_address(0, 0), VIRTIO_BLK_T_IN, 0);
	status_of(vm, (struct seg[]){ header }, 1, &length);
	EQUAL(length, 0, "used.len without a status byte");
	status_of(vm, (struct seg[]){ header, { DATA, 512, false } }, 2, &length);
	EQUAL(length, 0, "used.len of a chain with nothing writable");
	EQUAL(status_of(vm, (struct seg[]){ status }, 1, &length), VIRTIO_BLK_S_IOERR, "no header");
	EQUAL(status_of(vm, (struct seg[]){ { header_address(0, 0), 15, false }, status }, 2, &length), VIRTIO_BLK_S_IOERR,
	      "a header of 15 bytes");
	EQUAL(status_of(vm, (struct seg[]){ header, { DATA, 511, true }, status }, 3, &length), VIRTIO_BLK_S_IOERR,
	      "511 bytes");
	/* A failed read has written no data: the status byte lies behind a gap. */
	EQUAL(length, 0, "used.len of a refused read");
	EQUAL(status_of(vm, (struct seg[]){ header, status }, 2, &length), VIRTIO_BLK_S_OK, "a read of nothing");
	EQUAL(length, 1, "used.len of a read of nothing");
	/*
	 * A zero-length descriptor is a fault of the driver; whether it is skipped or refused, the queue must live.
	 */
	status_of(vm, (struct seg[]){ header, { DATA, 512, true }, { DATA, 0, true }, status }, 4, &length);
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 0, DATA, 512), VIRTIO_BLK_S_OK, "a read after all that");
}

/* Rings that the vhost core gives up on: the VMM can stop the queue, and a reset one works again. */
static void broken_ring(void)
{
	for (int kind = 0; kind < 4; kind++) {
		struct vm *vm = vm_on(&backends[1], FEATURES);
		struct ring *ring = &vm->ring[0];
		struct vring_used_elem used;

		EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 0, DATA, 512), VIRTIO_BLK_S_OK, "a read before");
		/* Seen when it is broken, not before. */
		EQUAL(vm_pause(vm, 0, 1), 0, "PAUSE");
		start_request(vm, 0, 0, VIRTIO_BLK_T_IN, 0, DATA, 512);
		switch (kind) {
		case 0: /* the index runs ahead of the ring */
			ring->avail->idx += RING_NUM + 5;
			break;
		case 1: /* a chain that bites its tail */
			ring->desc[4].next = 5;
			ring->desc[5] = (struct vring_desc){ DATA, 1, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 4 };
			ring->desc[4].flags |= VRING_DESC_F_NEXT;
			break;
		case 2: /* outside guest memory */
			ring->desc[4].addr = GUEST_END;
			break;
		case 3: /* a head outside the table */
			ring->avail->ring[1] = RING_NUM;
			break;
		}
		EQUAL(vm_pause(vm, 0, 0), 0, "PAUSE off");
		CHECK(!reap(vm, 0, &used, 300), "broken ring %d: it was answered", kind);
		EQUAL(vm_backend(vm, 0, -1), 0, "stopping");
		ring_reset(vm, 0);
		EQUAL(vm_backend(vm, 0, open_image("image", O_RDWR)), 0, "SET_BACKEND");
		EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 0, DATA, 512), VIRTIO_BLK_S_OK, "a read after the reset");
		vm_close(vm);
	}
}

/* One head made available several times before the first answer. */
static void same_head(void)
{
	struct vm *vm = vm_on(&backends[1], FEATURES);
	struct ring *ring = &vm->ring[0];
	unsigned int head = start_request(vm, 0, 0, VIRTIO_BLK_T_IN, 0, DATA, 4096);

	for (int i = 1; i < 100; i++)
		ring->avail->ring[i] = head;
	ring->avail->idx = 100;
	kick(vm, 0);
	for (int i = 0; i < 100; i++)
		EQUAL(must_reap(vm, 0).id, head, "head");
	EQUAL(vm_backend(vm, 0, -1), 0, "stopping");
	EQUAL(vm_base(vm, 0), 100, "the next index");
}

static void event_idx(void)
{
	struct vm *vm = vm_on(&backends[1], FEATURES | 1ULL << VIRTIO_RING_F_EVENT_IDX);
	struct ring *ring = &vm->ring[0];
	uint16_t *used_event = &ring->avail->ring[RING_NUM], avail_event;
	struct pollfd call = { .fd = ring->call, .events = POLLIN };
	struct vring_used_elem used;
	uint64_t calls;

	/* The first answer after a start always calls; the call may come later than the used index. */
	start_request(vm, 0, 0, VIRTIO_BLK_T_IN, 0, DATA, 512);
	kick(vm, 0);
	CHECK(poll(&call, 1, SOON_MS) == 1 && read(ring->call, &calls, sizeof(calls)) > 0, "no call at the first");
	must_reap(vm, 0);
	/* Asked to call at the fourth, it doesn't at the two before. */
	*used_event = 3;
	for (int i = 1; i < 3; i++) {
		start_request(vm, 0, i, VIRTIO_BLK_T_IN, 0, DATA, 512);
		kick(vm, 0);
		for (int wait = 0; wait < SOON_MS && __atomic_load_n(&ring->used->idx, __ATOMIC_SEQ_CST) != i + 1; wait++)
			usleep(1000);
		EQUAL(ring->used->idx, i + 1, "used index");
		usleep(20000);
		CHECK(read(ring->call, &calls, sizeof(calls)) < 0, "called before it was asked to");
	}
	start_request(vm, 0, 3, VIRTIO_BLK_T_IN, 0, DATA, 512);
	kick(vm, 0);
	for (int i = 1; i < 4; i++)
		CHECK(reap(vm, 0, &used, SOON_MS), "no call at the fourth");
	/* And it asks to be kicked at the next. */
	memcpy(&avail_event, &ring->used->ring[RING_NUM], sizeof(avail_event));
	EQUAL(avail_event, 4, "avail_event");
	*used_event = 4;
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 0, DATA, 512), VIRTIO_BLK_S_OK, "the fifth");
}

static void legacy(void)
{
	struct vm *vm = vm_on(&backends[1], FEATURES & ~(1ULL << VIRTIO_F_VERSION_1));

	EQUAL(request(vm, 0, VIRTIO_BLK_T_OUT, 3, DATA, 4096), VIRTIO_BLK_S_OK, "write");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 3, DATA, 4096), VIRTIO_BLK_S_OK, "read");
}

const struct test_case layout_cases[] = {
	{ "split-header", split_header },
	{ "shared-status", shared_status },
	{ "indirect", indirect },
	{ "long-chain", long_chain },
	{ "misaligned", misaligned },
	{ "across-regions", across_regions },
	{ "unknown-type", unknown_type },
	{ "malformed", malformed },
	{ "broken-ring", broken_ring },
	{ "same-head", same_head },
	{ "event-idx", event_idx },
	{ "legacy", legacy },
	{},
};
