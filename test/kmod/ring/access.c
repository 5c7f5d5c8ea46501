// SPDX-License-Identifier: GPL-2.0-or-later
/* What must be refused: files, configurations, ranges, callers. */
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (4 * MIB)

static void info(void)
{
	struct vhost_blk_info info;
	struct vm *vm = vm_open(1, FEATURES);
	uint64_t features;
	struct stat st;

	memset(&info, 0xff, sizeof(info));
	must_ioctl(vm, VHOST_BLK_GET_INFO, &info);
	EQUAL(info.abi_version, VHOST_BLK_ABI_VERSION, "ABI version");
	EQUAL(info.max_queues, VHOST_BLK_MAX_QUEUES, "most queues");
	for (int i = 0; i < 6; i++)
		EQUAL(info.reserved[i], 0, "reserved field");
	must_ioctl(vm, VHOST_GET_FEATURES, &features);
	for (int bit = 0; bit < 64; bit++) {
		static const int wanted[] = { VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_RING_F_EVENT_IDX, VHOST_F_LOG_ALL,
			VIRTIO_F_ANY_LAYOUT, VIRTIO_F_VERSION_1, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_RO,
			VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_CONFIG_WCE,
			VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES };

		for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++)
			CHECK(bit != wanted[i] || features & 1ULL << bit, "feature %d is not offered", bit);
	}
	features |= 1ULL << VIRTIO_F_RING_PACKED;
	EQUAL(vm_ioctl(vm, VHOST_SET_FEATURES, &features), EOPNOTSUPP, "acknowledging a packed ring");
	EQUAL(stat("/dev/vhost-blk", &st), 0, "stat");
	EQUAL(st.st_mode & 0777, 0600, "mode of /dev/vhost-blk");
}

static void capacity(void)
{
	for (int b = 0; b < 4; b++) {
		int fd = backend_open(&backends[b], SIZE);
		struct vm *vm = vm_open(1, FEATURES);
		const uint64_t last = SIZE / 2 / 512;
		const struct { uint64_t sector; uint32_t length; int status; } tries[] = {
			{ last - 1, 512, VIRTIO_BLK_S_OK },
			{ last - 8, 4096, VIRTIO_BLK_S_OK },
			{ last, 512, VIRTIO_BLK_S_IOERR },
			{ last - 1, 1024, VIRTIO_BLK_S_IOERR },
			{ last + 8, 512, VIRTIO_BLK_S_IOERR },
			{ UINT64_MAX, 512, VIRTIO_BLK_S_IOERR },
			{ UINT64_MAX / 512, 512, VIRTIO_BLK_S_IOERR },
			{ (UINT64_MAX >> 9) + 1, 4096, VIRTIO_BLK_S_IOERR },
			{ 0x80000000000000, 4096, VIRTIO_BLK_S_IOERR },
		};
		struct stat st;

		EQUAL(vm_configure(vm, SIZE / 2, 0, 0), 0, "SET_CONFIG");
		EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
		for (size_t i = 0; i < sizeof(tries) / sizeof(*tries); i++)
			for (uint32_t type = VIRTIO_BLK_T_IN; type <= VIRTIO_BLK_T_OUT; type++)
				EQUAL(request(vm, 0, type, tries[i].sector, DATA, tries[i].length), tries[i].status,
				      backends[b].name);
		EQUAL(fstat(fd, &st), 0, "fstat");
		CHECK(backends[b].block || st.st_size == SIZE, "the file was extended to %lld", (long long)st.st_size);
		vm_close(vm);
		close(fd);
	}
}

static void configuration(void)
{
	int fd = make_image("image", SIZE, O_RDWR);
	struct vm *vm = vm_open(1, FEATURES);
	struct vhost_blk_config config = { .capacity = SIZE, .reserved0 = 1 };

	EQUAL(vm_backend(vm, 0, fd), ENODATA, "a backend before there is a capacity");
	EQUAL(vm_ioctl(vm, VHOST_BLK_SET_CONFIG, &config), EINVAL, "a reserved field");
	config.reserved0 = 0;
	config.reserved[8] = 1;
	EQUAL(vm_ioctl(vm, VHOST_BLK_SET_CONFIG, &config), EINVAL, "the last reserved field");
	EQUAL(vm_configure(vm, SIZE, 0, 1 << 7), EINVAL, "an unknown flag");
	EQUAL(vm_configure(vm, SIZE + 1, 0, 0), EINVAL, "a capacity of odd bytes");
	EQUAL(vm_configure(vm, 512, 100, 0), EINVAL, "an offset of odd bytes");
	EQUAL(vm_configure(vm, 1ULL << 63, 0, 0), EINVAL, "a capacity beyond any file");
	EQUAL(vm_configure(vm, (1ULL << 63) - 512, 1024, 0), EINVAL, "an end beyond any file");
	EQUAL(vm_configure(vm, SIZE, 512, 0), 0, "SET_CONFIG");
	EQUAL(vm_backend(vm, 0, fd), ENOSPC, "a backend that is too small");
	EQUAL(vm_configure(vm, SIZE, 0, 0), 0, "SET_CONFIG");
	EQUAL(vm_backend(vm, 1, fd), ENOBUFS, "a queue that is not there");
	EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
	EQUAL(vm_configure(vm, SIZE + 512, 0, 0), ENOSPC, "a capacity beyond the running backend");
	EQUAL(ftruncate(fd, 2 * SIZE), 0, "growing the image");
	EQUAL(vm_configure(vm, 2 * SIZE, 0, 0), 0, "a capacity that it has grown to");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_OUT, 2 * SIZE / 512 - 8, DATA, 4096), VIRTIO_BLK_S_OK, "a write to the new end");
}

static void read_only(void)
{
	int writable = make_image("image", SIZE, O_RDWR), readable = open_image("image", O_RDONLY);
	struct vm *vm = vm_open(1, FEATURES);

	EQUAL(vm_configure(vm, SIZE, 0, 0), 0, "SET_CONFIG");
	EQUAL(vm_backend(vm, 0, readable), EBADF, "a writable disk on a read-only descriptor");
	EQUAL(vm_configure(vm, SIZE, 0, VHOST_BLK_CONFIG_READ_ONLY), 0, "SET_CONFIG");
	EQUAL(vm_backend(vm, 0, readable), 0, "a read-only disk on a read-only descriptor");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 0, DATA, 512), VIRTIO_BLK_S_OK, "read");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_OUT, 0, DATA, 512), VIRTIO_BLK_S_IOERR, "write");
	EQUAL(vm_configure(vm, SIZE, 0, 0), EBADF, "making it writable under a read-only descriptor");
	EQUAL(vm_backend(vm, 0, writable), 0, "a read-only disk on a writable descriptor");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_OUT, 0, DATA, 512), VIRTIO_BLK_S_IOERR, "write");
	EQUAL(vm_backend(vm, 0, -1), 0, "stopping");
	EQUAL(vm_configure(vm, SIZE, 0, 0), 0, "SET_CONFIG");
	vm_set_features(vm, FEATURES | 1ULL << VIRTIO_BLK_F_RO);
	EQUAL(vm_backend(vm, 0, writable), 0, "SET_BACKEND");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_OUT, 0, DATA, 512), VIRTIO_BLK_S_IOERR, "write with RO negotiated");
	EQUAL(vm_stats(vm, 0).write_bytes, 0, "bytes written");
}

static void refused_files(void)
{
	struct vm *vm = vm_open(1, FEATURES);
	int pipes[2], sockets[2];

	close(make_image("image", SIZE, O_RDWR));
	EQUAL(vm_configure(vm, SIZE, 0, 0), 0, "SET_CONFIG");
	EQUAL(vm_backend(vm, 0, open_image("image", O_RDWR | O_APPEND)), EINVAL, "O_APPEND");
	EQUAL(vm_backend(vm, 0, open_image("image", O_WRONLY)), EBADF, "O_WRONLY");
	EQUAL(vm_backend(vm, 0, open_image("image", O_PATH)), EBADF, "O_PATH");
	EQUAL(vm_backend(vm, 0, open(test_dir, O_RDONLY | O_DIRECTORY)), EINVAL, "a directory");
	EQUAL(vm_backend(vm, 0, open("/dev/zero", O_RDWR)), EINVAL, "a character device");
	EQUAL(vm_backend(vm, 0, vm->fd), EINVAL, "the device itself");
	EQUAL(vm_backend(vm, 0, 999), EBADF, "a descriptor that is not open");
	EQUAL(vm_backend(vm, 0, -2), EBADF, "descriptor -2");
	CHECK(!pipe(pipes) && !socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), "pipe: %s", strerror(errno));
	EQUAL(vm_backend(vm, 0, pipes[0]), EINVAL, "a pipe");
	EQUAL(vm_backend(vm, 0, sockets[0]), EINVAL, "a socket");
	EQUAL(vm_stats(vm, 0).running, 0, "running");
}

static void owner(void)
{
	int fd = make_image("image", SIZE, O_RDWR), other = open("/dev/vhost-blk", O_RDWR | O_CLOEXEC);
	struct vhost_vring_file file = { .fd = fd };
	struct vm *vm = vm_open(1, FEATURES);
	uint32_t queues = 2;
	int status;

	CHECK(ioctl(other, VHOST_BLK_SET_BACKEND, &file) < 0 && errno == EPERM, "a backend without an owner");
	queues = 0;
	CHECK(ioctl(other, VHOST_BLK_SET_QUEUES, &queues) < 0 && errno == EINVAL, "no queues");
	queues = VHOST_BLK_MAX_QUEUES + 1;
	CHECK(ioctl(other, VHOST_BLK_SET_QUEUES, &queues) < 0 && errno == EINVAL, "too many queues");
	queues = VHOST_BLK_MAX_QUEUES;
	CHECK(!ioctl(other, VHOST_BLK_SET_QUEUES, &queues), "64 queues: %s", strerror(errno));
	EQUAL(vm_ioctl(vm, VHOST_BLK_SET_QUEUES, &queues), EBUSY, "queues after SET_OWNER");
	vm_configure(vm, SIZE, 0, 0);
	EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
	if (!fork()) {
		/* Another address space with the same descriptor. */
		bool refused = vm_backend(vm, 0, -1) == EPERM && vm_configure(vm, 512, 0, 0) == EPERM;

		_exit(!refused);
	}
	wait(&status);
	EQUAL(status, 0, "another process was allowed to");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 0, DATA, 512), VIRTIO_BLK_S_OK, "a read afterwards");
	EQUAL(vm_ioctl(vm, VHOST_RESET_OWNER, NULL), 0, "RESET_OWNER of a running device");
	EQUAL(vm_stats(vm, 0).running, 0, "running");
}

/* Rings and memory where no user memory is. */
static void kernel_addresses(void)
{
	int fd = make_image("image", SIZE, O_RDWR);
	struct vm *vm = vm_open(1, FEATURES);
	struct {
		struct vhost_memory memory;
		struct vhost_memory_region region;
	} table = { .memory.nregions = 1,
		    .region = { GUEST_BASE, REGION_SIZE, 0xffff888000000000ULL, 0 } };
	int error;

	vm_configure(vm, SIZE, 0, 0);
	error = vm_ioctl(vm, VHOST_SET_MEM_TABLE, &table);
	CHECK(error || vm_backend(vm, 0, fd) == EFAULT, "memory at a kernel address was taken");
	vm_set_memory(vm);
	EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
	EQUAL(vm_ioctl(vm, VHOST_SET_MEM_TABLE, &table), EFAULT, "a kernel address under a running queue");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 0, DATA, 512), VIRTIO_BLK_S_OK, "a read afterwards");
	/* Guest memory that is not there any more: an error, and the host goes on. */
	EQUAL(munmap(guest(vm, BORDER), REGION_SIZE), 0, "munmap");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 0, BORDER + PAGE, 512), VIRTIO_BLK_S_IOERR, "a read into nothing");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_OUT, 0, BORDER + PAGE, 512), VIRTIO_BLK_S_IOERR, "a write from nothing");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 0, DATA, 512), VIRTIO_BLK_S_OK, "a read afterwards");
}

/* A file that somebody shortens: reads past its end fail, they don't hang or give old data. */
static void truncated(void)
{
	for (int b = 0; b < 2; b++) {
		int fd = backend_open(&backends[b], SIZE);
		struct vm *vm = vm_open(1, FEATURES);

		vm_configure(vm, SIZE, 0, 0);
		EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
		EQUAL(ftruncate(fd, SIZE / 2 + 4096), 0, "ftruncate");
		EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, SIZE / 512 - 8, DATA, 4096), VIRTIO_BLK_S_IOERR, backends[b].name);
		EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, SIZE / 2 / 512, DATA, 8192), VIRTIO_BLK_S_IOERR, backends[b].name);
		EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, SIZE / 2 / 512, DATA, 4096), VIRTIO_BLK_S_OK, backends[b].name);
		vm_close(vm);
		close(fd);
	}
}

const struct test_case access_cases[] = {
	{ "info", info },
	{ "capacity", capacity },
	{ "configuration", configuration },
	{ "read-only", read_only },
	{ "refused-files", refused_files },
	{ "owner", owner },
	{ "kernel-addresses", kernel_addresses },
	{ "truncated", truncated },
	{},
};
