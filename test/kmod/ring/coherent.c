// SPDX-License-Identifier: GPL-2.0-or-later
/* Other processes have the backend open, too, by the page cache: all see what was written last. */
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (4 * MIB)
#define LENGTH (32 * KIB)
#define ROUNDS 40

static int open_buffered(const struct backend *backend)
{
	int fd = backend->block ? open(test_block, O_RDWR | O_CLOEXEC) : open_image("image", O_RDWR);

	CHECK(fd >= 0, "%s: %s", test_block, strerror(errno));
	return fd;
}

static void expect_same(const struct backend *backend, const char *who, int round, const uint8_t *got,
			const uint8_t *want, size_t length)
{
	for (size_t i = 0; i < length; i++)
		CHECK(got[i] == want[i], "%s, round %d: %s reads other data than was written, from byte %zu of %zu",
		      backend->name, round, who, i, length);
}

/* The guest writes what the other has in its cache; the other changes the cache before the guest reads. */
static void exchange(const struct backend *backend, struct vm *vm, int other, uint8_t *map)
{
	uint8_t *want = malloc(LENGTH), *got = malloc(LENGTH);

	for (int round = 0; round < ROUNDS; round++) {
		/* Whole pages, and parts of some. */
		uint64_t position = round * 17 * KIB % (SIZE / 2) + (round % 3 ? 0 : 512);
		uint32_t length = round % 2 ? LENGTH : 4096;

		CHECK(pread(other, got, length, position) == (ssize_t)length, "pread: %s", strerror(errno));
		pattern(want, length, 1000 + round);
		guest_write(vm, DATA, want, length);
		EQUAL(request(vm, 0, VIRTIO_BLK_T_OUT, position / 512, DATA, length), VIRTIO_BLK_S_OK, "write");
		CHECK(pread(other, got, length, position) == (ssize_t)length, "pread: %s", strerror(errno));
		expect_same(backend, "pread", round, got, want, length);
		expect_same(backend, "mmap", round, map + position, want, length);

		pattern(want, length, 2000 + round);
		if (round % 4 < 2)
			CHECK(pwrite(other, want, length, position) == (ssize_t)length, "pwrite: %s", strerror(errno));
		else
			memcpy(map + position, want, length);
		memset(guest(vm, DATA), 0xaa, length);
		EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, position / 512, DATA, length), VIRTIO_BLK_S_OK, "read");
		guest_read(vm, DATA, got, length);
		expect_same(backend, "the guest", round, got, want, length);
	}
	free(want);
	free(got);
}

static void coherent(void)
{
	for (int b = 0; b < 4; b++) {
		int fd = backend_open(&backends[b], SIZE);
		struct vm *vm = vm_open(1, FEATURES);
		pid_t child;
		int status;

		vm_configure(vm, SIZE, 0, 0);
		EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
		close(fd);
		fd = open_buffered(&backends[b]);
		exchange(&backends[b], vm, fd,
			 mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
		close(fd);
		/* A process that had nothing to do with it. */
		pattern(guest(vm, DATA), 4096, 77);
		EQUAL(request(vm, 0, VIRTIO_BLK_T_OUT, SIZE / 512 - 8, DATA, 4096), VIRTIO_BLK_S_OK, "write");
		child = fork();
		if (!child) {
			uint8_t got[4096], want[4096];

			pattern(want, 4096, 77);
			CHECK(pread(open_buffered(&backends[b]), got, 4096, SIZE - 4096) == 4096, "pread");
			expect_same(&backends[b], "another process", 0, got, want, 4096);
			_exit(0);
		}
		CHECK(waitpid(child, &status, 0) == child && !status, "another process, status %#x", status);
		EQUAL(vm_backend(vm, 0, -1), 0, "stopping");
		vm_close(vm);
	}
}

const struct test_case coherent_cases[] = {
	{ "coherent", coherent },
	{},
};
