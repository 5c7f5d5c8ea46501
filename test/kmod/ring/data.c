// SPDX-License-Identifier: GPL-2.0-or-later
/* What is read and written, and when it is durable. */
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE (4 * MIB)

/* Writes through the ring, reads from outside; writes from outside, reads through the ring; at a disk offset, too. */
static void data_on(const struct backend *backend, uint64_t offset, uint32_t length)
{
	int fd = backend_open(backend, SIZE);
	struct vm *vm = vm_open(1, FEATURES);
	uint8_t *want = malloc(length), *got = malloc(length);
	uint64_t sector = 24;

	EQUAL(vm_configure(vm, SIZE - offset, offset, 0), 0, "SET_CONFIG");
	EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
	pattern(want, length, length + offset);
	guest_write(vm, DATA, want, length);
	EQUAL(request(vm, 0, VIRTIO_BLK_T_OUT, sector, DATA, length), VIRTIO_BLK_S_OK, "status of the write");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK, "status of the flush");
	backend_read(backend, offset + sector * 512, got, length);
	CHECK(!memcmp(got, want, length), "%s: what was written at offset %llu is not in the backend", backend->name,
	      (unsigned long long)offset);
	/* Nothing before and nothing after it. */
	backend_read(backend, offset + sector * 512 - 512, got, 512);
	for (int i = 0; i < 512; i++)
		CHECK(!got[i], "%s: bytes before the request were written", backend->name);
	backend_read(backend, offset + sector * 512 + length, got, 512);
	for (int i = 0; i < 512; i++)
		CHECK(!got[i], "%s: bytes after the request were written", backend->name);

	memset(guest(vm, DATA + 2 * MIB), 0xaa, length + 512);
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, sector, DATA + 2 * MIB, length), VIRTIO_BLK_S_OK, "status of the read");
	guest_read(vm, DATA + 2 * MIB, got, length);
	CHECK(!memcmp(got, want, length), "%s: the guest reads other data than it wrote", backend->name);
	guest_read(vm, DATA + 2 * MIB + length, got, 512);
	for (int i = 0; i < 512; i++)
		CHECK(got[i] == 0xaa, "%s: a read wrote past its buffer", backend->name);
	EQUAL(vm_backend(vm, 0, -1), 0, "stopping");
	vm_close(vm);
	close(fd);
	free(want);
	free(got);
}

static void data(void)
{
	static const uint32_t lengths[] = { 512, 4096, 20480, 1 << 20 };

	for (int b = 0; b < 4; b++)
		for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++)
			data_on(&backends[b], 0, lengths[i]);
}

static void disk_offset(void)
{
	for (int b = 0; b < 4; b++)
		data_on(&backends[b], 65536 + 512, 12288);
}

/* Many at once, each somewhere else, read back through the ring and compared. */
static void many_in_flight(void)
{
	enum { COUNT = 40, LENGTH = 8192, ROUNDS = 20 };
	uint8_t *want = malloc(LENGTH), *got = malloc(LENGTH);

	for (int b = 0; b < 4; b++) {
		int fd = backend_open(&backends[b], SIZE);
		struct vm *vm = vm_open(1, FEATURES);

		EQUAL(vm_configure(vm, SIZE, 0, 0), 0, "SET_CONFIG");
		EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
		for (int round = 0; round < ROUNDS; round++) {
			bool write = round % 2 == 0;

			for (int i = 0; i < COUNT; i++) {
				pattern(want, LENGTH, i + 1000 * (round / 2));
				if (write)
					guest_write(vm, DATA + i * LENGTH, want, LENGTH);
				else
					memset(guest(vm, DATA + i * LENGTH), 0, LENGTH);
				start_request(vm, 0, i, write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
					      (COUNT - i) * LENGTH / 512, DATA + i * LENGTH, LENGTH);
			}
			kick(vm, 0);
			for (int i = 0; i < COUNT; i++)
				must_reap(vm, 0);
			for (int i = 0; i < COUNT; i++) {
				EQUAL(*(uint8_t *)guest(vm, status_address(0, i)), VIRTIO_BLK_S_OK, "status");
				pattern(want, LENGTH, i + 1000 * (round / 2));
				guest_read(vm, DATA + i * LENGTH, got, LENGTH);
				CHECK(!memcmp(got, want, LENGTH), "%s: round %d, request %d: other data", backends[b].name,
				      round, i);
			}
		}
		vm_close(vm);
		close(fd);
	}
}

static void get_id(void)
{
	int fd = make_image("image", SIZE, O_RDWR);
	struct vm *vm = vm_open(1, FEATURES);
	uint8_t got[VHOST_BLK_SERIAL_LEN];
	struct vring_used_elem used;
	struct seg segs[3];

	vm_configure(vm, SIZE, 0, 0);
	EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_GET_ID, 0, DATA, VHOST_BLK_SERIAL_LEN), VIRTIO_BLK_S_OK, "status");
	guest_read(vm, DATA, got, sizeof(got));
	CHECK(!memcmp(got, "serial \\ 0123456\x01\0\0\0", sizeof(got)), "the serial is another: %.20s", got);

	/* A longer buffer keeps its rest; the used length covers what was written without a gap. */
	memset(guest(vm, DATA), 0xaa, 32);
	put_header(vm, header_address(0, 0), VIRTIO_BLK_T_GET_ID, 0);
	segs[0] = (struct seg){ header_address(0, 0), 16, false };
	segs[1] = (struct seg){ DATA, 32, true };
	segs[2] = (struct seg){ status_address(0, 0), 1, true };
	submit(vm, 0, segs, 3, 0);
	kick(vm, 0);
	used = must_reap(vm, 0);
	EQUAL(used.len, VHOST_BLK_SERIAL_LEN, "used.len of GET_ID into 32 bytes");
	EQUAL(*(uint8_t *)guest(vm, DATA + 20), 0xaa, "the byte after the serial");
}

/* Field 16 of /sys/block/NAME/stat: flushes sent to the device. */
static unsigned long flush_count(void)
{
	char path[256], text[512] = "";
	unsigned long field = 0;
	char *at = text;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/block/%s/stat", strrchr(test_block, '/') + 1);
	file = fopen(path, "r");
	CHECK(file && fgets(text, sizeof(text), file), "%s: %s", path, strerror(errno));
	fclose(file);
	for (int i = 0; i < 16; i++)
		field = strtoul(at, &at, 10);
	return field;
}

static unsigned long flushes_of(struct vm *vm, uint32_t type)
{
	unsigned long before = flush_count();

	EQUAL(request(vm, 0, type, 0, DATA, type == VIRTIO_BLK_T_FLUSH ? 0 : 4096), VIRTIO_BLK_S_OK, "status");
	return flush_count() - before;
}

/* On a device with a volatile cache and no FUA, where a durable write shows as a flush. */
static void durable_writes(void)
{
	/* For backend_open() too; each case has its process. */
	test_block = test_cached;
	for (int b = 2; b < 4; b++) {
		const char *name = backends[b].name;
		int fd = backend_open(&backends[b], SIZE);
		struct vm *vm = vm_open(1, FEATURES);

		vm_configure(vm, SIZE, 0, 0);
		EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
		CHECK(flushes_of(vm, VIRTIO_BLK_T_OUT) == 0, "%s: a write with the cache on flushed the device", name);
		CHECK(flushes_of(vm, VIRTIO_BLK_T_FLUSH) == 1, "%s: a flush did not reach the device", name);
		/* Taken up by the next request of a running queue. */
		EQUAL(vm_configure(vm, SIZE, 0, VHOST_BLK_CONFIG_WRITETHROUGH), 0, "SET_CONFIG");
		CHECK(flushes_of(vm, VIRTIO_BLK_T_OUT) >= 1, "%s: a write-through write is not durable", name);
		EQUAL(vm_configure(vm, SIZE, 0, 0), 0, "SET_CONFIG");
		CHECK(flushes_of(vm, VIRTIO_BLK_T_OUT) == 0, "%s: the cache stayed off", name);
		EQUAL(vm_backend(vm, 0, -1), 0, "stopping");
		/* A guest that can't flush relies on every write. */
		vm_set_features(vm, FEATURES & ~(1ULL << VIRTIO_BLK_F_FLUSH));
		EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
		CHECK(flushes_of(vm, VIRTIO_BLK_T_OUT) >= 1, "%s: a write without FLUSH negotiated is not durable", name);
		vm_close(vm);
		close(fd);
	}
}

static void put_range(struct vm *vm, uint64_t address, uint64_t sector, uint32_t sectors, uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes range = { sector, sectors, flags };

	guest_write(vm, address, &range, sizeof(range));
}

static void zero_ranges(void)
{
	uint8_t *ones = malloc(64 * KIB), *got = malloc(64 * KIB);

	memset(ones, 0xff, 64 * KIB);
	for (int b = 0; b < 4; b++) {
		int fd = backend_open(&backends[b], SIZE);
		struct vm *vm = vm_open(1, FEATURES | 1ULL << VIRTIO_BLK_F_DISCARD | 1ULL << VIRTIO_BLK_F_WRITE_ZEROES);
		int status;

		vm_configure(vm, SIZE, 0, 0);
		EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
		guest_write(vm, DATA, ones, 64 * KIB);
		EQUAL(request(vm, 0, VIRTIO_BLK_T_OUT, 0, DATA, 64 * KIB), VIRTIO_BLK_S_OK, "status of the write");

		put_range(vm, DATA, 8, 8, 0);
		put_range(vm, DATA + 16, 32, 16, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
		EQUAL(request(vm, 0, VIRTIO_BLK_T_WRITE_ZEROES, 0, DATA, 32), VIRTIO_BLK_S_OK, "status of write zeroes");
		EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 0, DATA, 64 * KIB), VIRTIO_BLK_S_OK, "status of the read");
		guest_read(vm, DATA, got, 64 * KIB);
		for (unsigned int i = 0; i < 64 * KIB; i++) {
			unsigned int sector = i / 512;
			bool zero = (sector >= 8 && sector < 16) || (sector >= 32 && sector < 48);

			CHECK(got[i] == (zero ? 0 : 0xff), "%s: byte %u is %#x", backends[b].name, i, got[i]);
		}
		put_range(vm, DATA, 64, 8, 0);
		status = request(vm, 0, VIRTIO_BLK_T_DISCARD, 0, DATA, 16);
		CHECK(status == VIRTIO_BLK_S_OK, "%s: discard answers %d", backends[b].name, status);
		put_range(vm, DATA, 64, 8, 1);
		EQUAL(request(vm, 0, VIRTIO_BLK_T_DISCARD, 0, DATA, 16), VIRTIO_BLK_S_UNSUPP, "discard with unmap");
		put_range(vm, DATA, SIZE / 512 - 1, 2, 0);
		EQUAL(request(vm, 0, VIRTIO_BLK_T_WRITE_ZEROES, 0, DATA, 16), VIRTIO_BLK_S_IOERR, "zeroes past the end");
		EQUAL(request(vm, 0, VIRTIO_BLK_T_WRITE_ZEROES, 0, DATA, 15), VIRTIO_BLK_S_IOERR, "half a range");
		vm_close(vm);
		close(fd);
	}
}

/* A queue's worker must not wait for storage: reads that each take SLOW_MS overlap. */
static void no_blocking(void)
{
	enum { COUNT = 32, LENGTH = 4096 };

	for (int direct = 0; direct < 2; direct++) {
		int fd = open(test_slow, O_RDWR | O_CLOEXEC | (direct ? O_DIRECT : 0));
		struct vm *vm = vm_open(1, FEATURES);
		long ms = LONG_MAX;

		CHECK(fd >= 0, "%s: %s", test_slow, strerror(errno));
		vm_configure(vm, 32 * MIB, 0, 0);
		EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
		/* One by one they take as long every time; a busy machine is slow only now and then. */
		for (int attempt = 0; attempt < 5 && ms >= COUNT * SLOW_MS / 2; attempt++) {
			posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
			ms = now_ms();
			/* A megabyte apart: read-ahead must not serve them. */
			for (int i = 0; i < COUNT; i++)
				start_request(vm, 0, i, VIRTIO_BLK_T_IN, i * 1940, DATA + i * LENGTH, LENGTH);
			kick(vm, 0);
			for (int i = 0; i < COUNT; i++)
				must_reap(vm, 0);
			ms = now_ms() - ms;
			CHECK(ms >= SLOW_MS - 1, "%d reads of %d ms took %ld ms", COUNT, SLOW_MS, ms);
		}
		CHECK(ms < COUNT * SLOW_MS / 2, "%s: %d reads of %d ms took %ld ms", direct ? "direct" : "buffered", COUNT,
		      SLOW_MS, ms);
		vm_close(vm);
		close(fd);
	}
}

const struct test_case data_cases[] = {
	{ "data", data },
	{ "disk-offset", disk_offset },
	{ "many-in-flight", many_in_flight },
	{ "get-id", get_id },
	{ "durable-writes", durable_writes },
	{ "zero-ranges", zero_ranges },
	{ "no-blocking", no_blocking },
	{},
};
