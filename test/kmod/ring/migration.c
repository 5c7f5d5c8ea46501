// SPDX-License-Identifier: GPL-2.0-or-later
/* The dirty log: every page of the guest that the kernel writes is marked, or a migration loses it. */
#define _GNU_SOURCE
#include "ring.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE (4 * MIB)

static struct vm *logging_vm(const struct backend *backend)
{
	struct vm *vm = vm_open(1, FEATURES);

	vm_configure(vm, SIZE, 0, 0);
	EQUAL(vm_backend(vm, 0, backend_open(backend, SIZE)), 0, "SET_BACKEND");
	vm_log_start(vm);
	return vm;
}

static void clear_log(struct vm *vm)
{
	memset(vm->log, 0, GUEST_END / PAGE / 8 + 8);
}

static uint64_t used_ring_address(struct vm *vm)
{
	struct ring *ring = &vm->ring[0];

	return ring->address + ((uintptr_t)ring->used - (uintptr_t)ring->desc);
}

/* Exactly these pages: what the request may write, its status byte and the used ring. */
static void only_logged(struct vm *vm, const struct seg *segs, unsigned int count, const char *what)
{
	for (uint64_t page = GUEST_BASE; page < GUEST_END; page += PAGE) {
		bool want = page == (used_ring_address(vm) & ~(PAGE - 1));

		for (unsigned int i = 0; i < count; i++)
			want |= segs[i].writable && segs[i].address < page + PAGE &&
				segs[i].address + segs[i].length > page;
		CHECK(vm_logged(vm, page) == want, "%s: page %#llx is %smarked", what, (unsigned long long)page,
		      want ? "not " : "");
	}
}

static void run_logged(struct vm *vm, const char *what, uint32_t type, uint64_t sector, const struct seg *data,
		       unsigned int count, int status, uint64_t indirect)
{
	struct seg segs[16] = { { header_address(0, 0), 16, false } };

	put_header(vm, header_address(0, 0), type, sector);
	memcpy(&segs[1], data, count * sizeof(*data));
	segs[count + 1] = (struct seg){ GUEST_BASE + 3 * MIB + 4095, 1, true };
	clear_log(vm);
	submit(vm, 0, segs, count + 2, indirect);
	kick(vm, 0);
	must_reap(vm, 0);
	EQUAL(*(uint8_t *)guest(vm, GUEST_BASE + 3 * MIB + 4095), status, what);
	/* The call comes after the log: what is to be seen is there. */
	only_logged(vm, segs, count + 2, what);
}

static void dirty_log(void)
{
	for (int b = 0; b < 4; b++) {
		struct vm *vm = logging_vm(&backends[b]);
		const struct seg pages = { DATA, 64 * KIB, true };
		const struct seg across = { BORDER - 512, 4096, true };
		const struct seg from = { DATA, 8192, false };
		const struct seg id = { DATA + 30 * PAGE - 10, 20, true };
		const struct seg crooked[] = { { DATA + 100, 412, true }, { DATA + 10 * PAGE - 1, 1636, true } };
		const char *name = backends[b].name;

		run_logged(vm, name, VIRTIO_BLK_T_IN, 0, &pages, 1, VIRTIO_BLK_S_OK, 0);
		run_logged(vm, name, VIRTIO_BLK_T_IN, 0, crooked, 2, VIRTIO_BLK_S_OK, 0);
		run_logged(vm, name, VIRTIO_BLK_T_IN, 0, &across, 1, VIRTIO_BLK_S_OK, 0);
		run_logged(vm, name, VIRTIO_BLK_T_IN, 0, &pages, 1, VIRTIO_BLK_S_OK, GUEST_BASE + 3 * MIB + 8192);
		run_logged(vm, name, VIRTIO_BLK_T_OUT, 0, &from, 1, VIRTIO_BLK_S_OK, 0);
		run_logged(vm, name, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, VIRTIO_BLK_S_OK, 0);
		run_logged(vm, name, VIRTIO_BLK_T_GET_ID, 0, &id, 1, VIRTIO_BLK_S_OK, 0);
		/* A failed request answers too, and may have written any part of its buffers. */
		run_logged(vm, name, VIRTIO_BLK_T_IN, SIZE / 512, &pages, 1, VIRTIO_BLK_S_IOERR, 0);
		run_logged(vm, name, 99, 0, &pages, 1, VIRTIO_BLK_S_UNSUPP, 0);
		vm_close(vm);
	}
}

/* Reads that are in flight when the log is turned on, or while it is on and the queue is stopped. */
static void log_toggle(void)
{
	enum { COUNT = 32 };

	for (int round = 0; round < 20; round++) {
		int fd = open(test_slow, O_RDWR | O_CLOEXEC | O_DIRECT);
		struct vm *vm = vm_open(1, FEATURES);
		uint16_t answered;

		vm_configure(vm, SIZE, 0, 0);
		EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
		for (int i = 0; i < COUNT; i++)
			start_request(vm, 0, i, VIRTIO_BLK_T_IN, i * 8, DATA + i * PAGE, PAGE);
		kick(vm, 0);
		usleep(round * 300);
		vm_log_start(vm);
		/* What was answered before the ioctl returned needs no log; all that comes later does. */
		answered = __atomic_load_n(&vm->ring[0].used->idx, __ATOMIC_SEQ_CST);
		EQUAL(vm_backend(vm, 0, -1), 0, "stopping");
		for (uint16_t i = answered; i != vm->ring[0].used->idx; i++) {
			unsigned int slot = vm->ring[0].used->ring[i % RING_NUM].id / 3;

			CHECK(vm_logged(vm, DATA + slot * PAGE), "round %d: the page of request %u is not marked", round, slot);
		}
		vm_close(vm);
		close(fd);
	}
}

const struct test_case migration_cases[] = {
	{ "dirty-log", dirty_log },
	{ "log-toggle", log_toggle },
	{},
};
