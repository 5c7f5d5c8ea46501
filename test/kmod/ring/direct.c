// SPDX-License-Identifier: GPL-2.0-or-later
/* Block devices opened with O_DIRECT: the module's own bios, beside others who have the device open. */
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SIZE (16 * MIB)

static const struct backend direct = { "a block device, direct", true, O_DIRECT };
static const struct backend cached = { "a block device", true, 0 };

static struct vm *open_direct(int *fd)
{
	struct vm *vm = vm_open(1, FEATURES);

	*fd = backend_open(&direct, SIZE);
	EQUAL(vm_configure(vm, SIZE, 0, 0), 0, "SET_CONFIG");
	EQUAL(vm_backend(vm, 0, *fd), 0, "SET_BACKEND");
	return vm;
}

/* Field 5 of /sys/block/NAME/stat: writes completed by the device. */
static unsigned long write_count(void)
{
	char path[256];
	unsigned long field[5];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/block/%s/stat", strrchr(test_block, '/') + 1);
	file = fopen(path, "r");
	CHECK(file && fscanf(file, "%lu %lu %lu %lu %lu", &field[0], &field[1], &field[2], &field[3], &field[4]) == 5,
	      "%s: %s", path, strerror(errno));
	fclose(file);
	return field[4];
}

/* Another opener reads and writes through the page cache: both always see what the other has written. */
static void coherent_cache(void)
{
	enum { LENGTH = 64 * KIB, ROUNDS = 20 };
	uint8_t *want = malloc(LENGTH), *got = malloc(LENGTH);
	int fd, other;
	struct vm *vm = open_direct(&fd);
	unsigned long writes;

	other = open(test_block, O_RDWR | O_CLOEXEC);
	CHECK(other >= 0, "%s: %s", test_block, strerror(errno));
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t position = (round % 7) * 32 * KIB;

		/* Dirty pages of the other's. */
		pattern(want, LENGTH, 2 * round);
		CHECK(pwrite(other, want, LENGTH, position) == LENGTH, "pwrite: %s", strerror(errno));
		EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, position / 512, DATA, LENGTH), VIRTIO_BLK_S_OK, "status of the read");
		guest_read(vm, DATA, got, LENGTH);
		CHECK(!memcmp(got, want, LENGTH), "round %d: the guest does not see what another opener wrote", round);
		/* Clean or dirty pages which the guest's write makes stale. */
		if (round % 2)
			CHECK(pread(other, got, LENGTH, position) == LENGTH, "pread: %s", strerror(errno));
		else
			CHECK(pwrite(other, want, LENGTH, position) == LENGTH, "pwrite: %s", strerror(errno));
		pattern(want, LENGTH, 2 * round + 1);
		guest_write(vm, DATA, want, LENGTH);
		EQUAL(request(vm, 0, VIRTIO_BLK_T_OUT, position / 512, DATA, LENGTH), VIRTIO_BLK_S_OK, "status of the write");
		CHECK(pread(other, got, LENGTH, position) == LENGTH, "pread: %s", strerror(errno));
		CHECK(!memcmp(got, want, LENGTH), "round %d: another opener does not see what the guest wrote", round);
	}
	/* A flush covers the other's pages too. */
	CHECK(pwrite(other, want, 4096, 8 * MIB) == 4096, "pwrite: %s", strerror(errno));
	writes = write_count();
	EQUAL(request(vm, 0, VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK, "status of the flush");
	CHECK(write_count() > writes, "a flush left another opener's dirty page in the cache");
	vm_close(vm);
	close(other);
	close(fd);
}

/* One chain of count pages, scattered and in reverse; returns the status byte. */
static int scattered(struct vm *vm, uint32_t type, uint64_t sector, unsigned int count)
{
	struct seg *segs = calloc(count + 2, sizeof(*segs));
	unsigned int n = 0;
	int status;

	put_header(vm, header_address(0, 0), type, sector);
	*(uint8_t *)guest(vm, status_address(0, 0)) = 0xff;
	segs[n++] = (struct seg){ header_address(0, 0), 16, false };
	for (unsigned int i = 0; i < count; i++)
		segs[n++] = (struct seg){ DATA + (count - 1 - i) * 2 * PAGE, PAGE, type == VIRTIO_BLK_T_IN };
	segs[n++] = (struct seg){ status_address(0, 0), 1, true };
	submit(vm, 0, segs, n, GUEST_BASE + 3 * MIB);
	kick(vm, 0);
	must_reap(vm, 0);
	status = *(uint8_t *)guest(vm, status_address(0, 0));
	free(segs);
	return status;
}

/* Requests of more pages than the request has room for, than a bio has, and than four bios have; and 8 MiB in one piece. */
static void many_pages(void)
{
	static const unsigned int counts[] = { 7, 8, 9, 255, 256, 257, 300, 1000 };
	uint8_t *want = malloc(8 * MIB), *got = malloc(8 * MIB);
	int fd;
	struct vm *vm = open_direct(&fd);

	for (size_t c = 0; c < sizeof(counts) / sizeof(*counts); c++) {
		unsigned int count = counts[c];

		pattern(want, count * PAGE, count);
		for (unsigned int i = 0; i < count; i++)
			guest_write(vm, DATA + (count - 1 - i) * 2 * PAGE, want + i * PAGE, PAGE);
		EQUAL(scattered(vm, VIRTIO_BLK_T_OUT, c * 8, count), VIRTIO_BLK_S_OK, "status of the write");
		backend_read(&direct, c * 4 * KIB, got, count * PAGE);
		CHECK(!memcmp(got, want, count * PAGE), "%u pages: other data in the backend", count);
		for (unsigned int i = 0; i < 2 * count; i++)
			memset(guest(vm, DATA + i * PAGE), 0xaa, PAGE);
		EQUAL(scattered(vm, VIRTIO_BLK_T_IN, c * 8, count), VIRTIO_BLK_S_OK, "status of the read");
		for (unsigned int i = 0; i < count; i++) {
			guest_read(vm, DATA + (count - 1 - i) * 2 * PAGE, got, PAGE);
			CHECK(!memcmp(got, want + i * PAGE, PAGE), "%u pages: page %u has other data", count, i);
			CHECK(*(uint8_t *)guest(vm, DATA + (2 * i + 1) * PAGE) == 0xaa, "%u pages: a page between was written",
			      count);
		}
	}
	pattern(want, 8 * MIB, 8);
	guest_write(vm, DATA, want, 8 * MIB);
	EQUAL(request(vm, 0, VIRTIO_BLK_T_OUT, 0, DATA, 8 * MIB), VIRTIO_BLK_S_OK, "status of the write of 8 MiB");
	memset(guest(vm, DATA), 0, 8 * MIB);
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 0, DATA, 8 * MIB), VIRTIO_BLK_S_OK, "status of the read of 8 MiB");
	guest_read(vm, DATA, got, 8 * MIB);
	CHECK(!memcmp(got, want, 8 * MIB), "8 MiB: other data");
	backend_read(&cached, 0, got, 8 * MIB);
	CHECK(!memcmp(got, want, 8 * MIB), "8 MiB: other data in the backend");
	vm_close(vm);
	close(fd);
}

/* More requests than the device takes at once: the rest wait for it, but not the queue's worker. */
static void full_device(void)
{
	enum { COUNT = 120, LENGTH = 4096 };
	struct vm *vm = vm_open(1, FEATURES);
	int fd = open(test_slow, O_RDWR | O_CLOEXEC | O_DIRECT);
	struct timespec start, end;
	long ms;

	CHECK(fd >= 0, "%s: %s", test_slow, strerror(errno));
	EQUAL(vm_configure(vm, 32 * MIB, 0, 0), 0, "SET_CONFIG");
	EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (unsigned int i = 0; i < COUNT; i++) {
		struct seg segs[3] = {
			{ header_address(0, i), 16, false },
			{ DATA + i * LENGTH, LENGTH, i % 2 },
			{ status_address(0, i), 1, true },
		};

		put_header(vm, header_address(0, i), i % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, i * 64);
		*(uint8_t *)guest(vm, status_address(0, i)) = 0xff;
		submit(vm, 0, segs, 3, GUEST_BASE + 3 * MIB + i * 64);
	}
	kick(vm, 0);
	for (int i = 0; i < COUNT; i++)
		must_reap(vm, 0);
	clock_gettime(CLOCK_MONOTONIC, &end);
	for (int i = 0; i < COUNT; i++)
		EQUAL(*(uint8_t *)guest(vm, status_address(0, i)), VIRTIO_BLK_S_OK, "status");
	ms = (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000;
	CHECK(ms < COUNT * SLOW_MS / 2, "%d requests of %d ms took %ld ms", COUNT, SLOW_MS, ms);
	vm_close(vm);
	close(fd);
}

/* With busy polling nothing changes but the time: every request is answered, also those that come as it gives up. */
static void busy_polling(void)
{
	enum { ROUNDS = 300, LENGTH = 4096 };
	static const unsigned int timeouts[] = { 1, 50, 20000 };
	uint8_t *want = malloc(LENGTH), *got = malloc(LENGTH);
	int fd;
	struct vm *vm = open_direct(&fd);

	for (size_t t = 0; t < sizeof(timeouts) / sizeof(*timeouts); t++) {
		struct vhost_vring_state state = { .num = timeouts[t] };

		must_ioctl(vm, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &state);
		for (int i = 0; i < ROUNDS; i++) {
			pattern(want, LENGTH, i);
			guest_write(vm, DATA, want, LENGTH);
			EQUAL(request(vm, 0, VIRTIO_BLK_T_OUT, i * 8, DATA, LENGTH), VIRTIO_BLK_S_OK, "status of the write");
			EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, i * 8, DATA + LENGTH, LENGTH), VIRTIO_BLK_S_OK,
			      "status of the read");
			guest_read(vm, DATA + LENGTH, got, LENGTH);
			CHECK(!memcmp(got, want, LENGTH), "round %d: other data", i);
			usleep(i % 3 * 40);
		}
		/* The poll must not keep the queue from stopping. */
		EQUAL(vm_backend(vm, 0, -1), 0, "stopping");
		EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
	}
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1) {
		struct vhost_vring_state state = { .num = 10000000 };

		/* With a processor to itself it finds, within its time, what nobody has kicked it for. */
		must_ioctl(vm, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &state);
		EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 0, DATA, LENGTH), VIRTIO_BLK_S_OK, "status of the read");
		start_request(vm, 0, 0, VIRTIO_BLK_T_IN, 0, DATA, LENGTH);
		must_reap(vm, 0);
	}
	vm_close(vm);
	close(fd);
}

const struct test_case direct_cases[] = {
	{ "coherent-cache", coherent_cache },
	{ "many-pages", many_pages },
	{ "full-device", full_device },
	{ "busy-polling", busy_polling },
	{},
};
