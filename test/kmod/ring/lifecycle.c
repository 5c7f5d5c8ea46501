// SPDX-License-Identifier: GPL-2.0-or-later
/* Start, stop, exchange, several queues, death. */
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (4 * MIB)
/* Three descriptors each: all of a ring of 128. */
#define IN_FLIGHT 40

static void start_many(struct vm *vm, unsigned int queue, uint32_t type)
{
	for (int i = 0; i < IN_FLIGHT; i++)
		start_request(vm, queue, i, type, i * 8, DATA + i * 4096, 4096);
	kick(vm, queue);
}

/* After a stop the kernel has answered exactly what it took; after a start it goes on with the rest. */
static void stop_and_check(struct vm *vm)
{
	unsigned int base;

	EQUAL(vm_backend(vm, 0, -1), 0, "stopping");
	base = vm_base(vm, 0);
	EQUAL(vm->ring[0].used->idx, (uint16_t)base, "used index after the stop");
	EQUAL(vm_stats(vm, 0).running, 0, "running");
	EQUAL(vm_stats(vm, 0).inflight, 0, "in flight");
}

static void stop_drains(void)
{
	for (int b = -1; b < 4; b++) {
		/* On the slow device the stop is bound to find requests in flight. */
		int fd = b < 0 ? open(test_slow, O_RDWR | O_CLOEXEC | O_DIRECT) : backend_open(&backends[b], SIZE);
		struct vm *vm = vm_open(1, FEATURES);
		unsigned int partly = 0;

		vm_configure(vm, SIZE, 0, 0);
		for (int round = 0; round < 30; round++) {
			EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
			start_many(vm, 0, round % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT);
			usleep(round * 200);
			stop_and_check(vm);
			partly += vm->ring[0].used->idx != vm->ring[0].avail->idx;
			EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
			for (int i = 0; i < IN_FLIGHT; i++)
				must_reap(vm, 0);
			for (int i = 0; i < IN_FLIGHT; i++)
				EQUAL(*(uint8_t *)guest(vm, status_address(0, i)), VIRTIO_BLK_S_OK, "status");
			stop_and_check(vm);
		}
		vm_close(vm);
		close(fd);
	}
}

/* Idle, twice, and never started. */
static void stop_idle(void)
{
	int fd = make_image("image", SIZE, O_RDWR);
	struct vm *vm = vm_open(1, FEATURES);

	vm_configure(vm, SIZE, 0, 0);
	EQUAL(vm_backend(vm, 0, -1), 0, "stopping what never ran");
	EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
	EQUAL(vm_stats(vm, 0).running, 1, "running");
	EQUAL(vm_backend(vm, 0, -1), 0, "stopping");
	EQUAL(vm_backend(vm, 0, -1), 0, "stopping again");
}

static void replace(void)
{
	static uint8_t a[4096], b[4096];
	struct vm *vm = vm_open(1, FEATURES);
	int files[2] = { make_image("a", SIZE, O_RDWR | O_DIRECT), make_image("b", SIZE, O_RDWR) };
	unsigned int seen[2] = { 0, 0 };

	memset(a, 'a', sizeof(a));
	memset(b, 'b', sizeof(b));
	for (unsigned int i = 0; i < SIZE / 4096; i++) {
		uint8_t *aligned = aligned_alloc(4096, 4096);

		memset(aligned, 'a', 4096);
		CHECK(pwrite(files[0], aligned, 4096, i * 4096) == 4096, "filling a");
		CHECK(pwrite(files[1], b, 4096, i * 4096) == 4096, "filling b");
		free(aligned);
	}
	vm_configure(vm, SIZE, 0, 0);
	EQUAL(vm_backend(vm, 0, files[0]), 0, "SET_BACKEND");
	for (int round = 0; round < 100; round++) {
		start_many(vm, 0, VIRTIO_BLK_T_IN);
		EQUAL(vm_backend(vm, 0, files[(round + 1) % 2]), 0, "replacing");
		for (int i = 0; i < IN_FLIGHT; i++)
			must_reap(vm, 0);
		for (int i = 0; i < IN_FLIGHT; i++) {
			const void *data = guest(vm, DATA + i * 4096);

			EQUAL(*(uint8_t *)guest(vm, status_address(0, i)), VIRTIO_BLK_S_OK, "status");
			CHECK(!memcmp(data, a, 4096) || !memcmp(data, b, 4096), "data of neither file");
			seen[!memcmp(data, b, 4096)]++;
		}
		EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 0, DATA, 4096), VIRTIO_BLK_S_OK, "read");
		EQUAL(*(uint8_t *)guest(vm, DATA), round % 2 ? 'a' : 'b', "the file read after the exchange");
	}
	CHECK(seen[0] + seen[1] == 100 * IN_FLIGHT, "requests were lost");
	/* A backend that is refused leaves the old one at work. */
	EQUAL(vm_backend(vm, 0, open_image("a", O_RDWR | O_APPEND)), EINVAL, "O_APPEND");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 0, DATA, 4096), VIRTIO_BLK_S_OK, "a read after a refused exchange");
}

/* Memory table, configuration, write cache and log are changed under load: nothing is lost. */
static void change_under_load(void)
{
	struct vm *vm = vm_open(2, FEATURES);
	int fd = make_image("image", SIZE, O_RDWR | O_DIRECT);

	vm_configure(vm, SIZE, 0, 0);
	for (unsigned int q = 0; q < 2; q++)
		EQUAL(vm_backend(vm, q, fd), 0, "SET_BACKEND");
	for (int round = 0; round < 100; round++) {
		for (unsigned int q = 0; q < 2; q++)
			start_many(vm, q, VIRTIO_BLK_T_IN);
		vm_set_memory(vm);
		if (round == 50)
			vm_log_start(vm);
		else if (round > 50)
			vm_set_features(vm, vm->features ^ 1ULL << VHOST_F_LOG_ALL);
		EQUAL(vm_configure(vm, SIZE, 0, round % 2 ? VHOST_BLK_CONFIG_WRITETHROUGH : 0), 0, "SET_CONFIG");
		for (unsigned int q = 0; q < 2; q++)
			for (int i = 0; i < IN_FLIGHT; i++)
				must_reap(vm, q);
	}
}

static void counters(void)
{
	struct vm *vm = vm_open(2, FEATURES);
	int fd = make_image("image", SIZE, O_RDWR);
	struct vhost_blk_stats stats;
	char path[64], text[4096];
	const char *line;
	FILE *file;
	static const char *const want[] = {
		"vhost-blk-abi:\t2\n", "vhost-blk-queues:\t2\n", "vhost-blk-running:\t1\n", "vhost-blk-inflight:\t0\n",
		"vhost-blk-reads:\t3\n", "vhost-blk-writes:\t1\n", "vhost-blk-flushes:\t1\n", "vhost-blk-others:\t2\n",
		"vhost-blk-errors:\t2\n", "vhost-blk-read-bytes:\t8704\n", "vhost-blk-write-bytes:\t1024\n",
		"vhost-blk-serial:\tserial \\134 0123456\\001\n",
	};

	vm_configure(vm, SIZE, 0, 0);
	EQUAL(vm_backend(vm, 1, fd), 0, "SET_BACKEND");
	request(vm, 1, VIRTIO_BLK_T_IN, 0, DATA, 8192);
	request(vm, 1, VIRTIO_BLK_T_IN, 0, DATA, 512);
	request(vm, 1, VIRTIO_BLK_T_IN, SIZE / 512, DATA, 512);
	request(vm, 1, VIRTIO_BLK_T_OUT, 0, DATA, 1024);
	request(vm, 1, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
	request(vm, 1, VIRTIO_BLK_T_GET_ID, 0, DATA, 20);
	request(vm, 1, 77, 0, 0, 0);
	stats = vm_stats(vm, 1);
	EQUAL(stats.running, 1, "running");
	EQUAL(stats.reads, 3, "reads");
	EQUAL(stats.writes, 1, "writes");
	EQUAL(stats.flushes, 1, "flushes");
	EQUAL(stats.others, 2, "others");
	EQUAL(stats.errors, 2, "errors");
	EQUAL(stats.read_bytes, 8704, "read bytes");
	EQUAL(stats.write_bytes, 1024, "write bytes");
	EQUAL(vm_stats(vm, 0).running, 0, "the other queue is running");
	stats.queue = 2;
	EQUAL(vm_ioctl(vm, VHOST_BLK_GET_STATS, &stats), ENOBUFS, "counters of a queue that is not there");

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", vm->fd);
	file = fopen(path, "r");
	CHECK(file, "%s: %s", path, strerror(errno));
	text[fread(text, 1, sizeof(text) - 1, file)] = 0;
	fclose(file);
	for (size_t i = 0; i < sizeof(want) / sizeof(*want); i++) {
		line = strstr(text, want[i]);
		CHECK(line && (line == text || line[-1] == '\n'), "fdinfo lacks \"%.*s\":\n%s", (int)strcspn(want[i], "\n"),
		      want[i], text);
	}
}

static void multi_queue(void)
{
	enum { QUEUES = 4 };
	struct vm *vm = vm_open(QUEUES, FEATURES);
	int fd = make_image("image", SIZE, O_RDWR | O_DIRECT);

	vm_configure(vm, SIZE, 0, 0);
	for (unsigned int q = 0; q < QUEUES; q++) {
		struct vhost_worker_state worker = {};
		struct vhost_vring_worker vring = { .index = q };

		/* Kernels before 6.5 have one worker for all. */
		if (q && !vm_ioctl(vm, VHOST_NEW_WORKER, &worker)) {
			vring.worker_id = worker.worker_id;
			must_ioctl(vm, VHOST_ATTACH_VRING_WORKER, &vring);
		}
		EQUAL(vm_backend(vm, q, fd), 0, "SET_BACKEND");
	}
	for (int round = 0; round < 50; round++) {
		for (unsigned int q = 0; q < QUEUES; q++)
			start_many(vm, q, VIRTIO_BLK_T_IN);
		for (unsigned int q = 0; q < QUEUES; q++)
			for (int i = 0; i < IN_FLIGHT; i++)
				must_reap(vm, q);
		/* One stops and starts, the others go on. */
		EQUAL(vm_backend(vm, round % QUEUES, -1), 0, "stopping");
		EQUAL(vm_backend(vm, round % QUEUES, fd), 0, "SET_BACKEND");
	}
	for (unsigned int q = 0; q < QUEUES; q++)
		EQUAL(vm_stats(vm, q).reads, 50 * IN_FLIGHT, "reads");
	vm_close(vm);
	close(fd);
}

/* The RFC's way: a descriptor for each queue of one disk. */
static void descriptor_per_queue(void)
{
	struct vm *vms[3];
	int fd = make_image("image", SIZE, O_RDWR);

	for (int i = 0; i < 3; i++) {
		vms[i] = vm_open(1, FEATURES);
		vm_configure(vms[i], SIZE, 0, 0);
		EQUAL(vm_backend(vms[i], 0, fd), 0, "SET_BACKEND");
	}
	for (int i = 0; i < 3; i++)
		start_many(vms[i], 0, VIRTIO_BLK_T_IN);
	for (int i = 0; i < 3; i++)
		for (int n = 0; n < IN_FLIGHT; n++)
			must_reap(vms[i], 0);
}

/* Closes with everything in flight. */
static void close_in_flight(void)
{
	for (int round = 0; round < 20; round++) {
		struct vm *vm = vm_open(1, FEATURES);
		int fd = open(test_slow, O_RDWR | O_CLOEXEC | (round % 2 ? O_DIRECT : 0));

		vm_configure(vm, SIZE, 0, 0);
		EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
		start_many(vm, 0, round % 4 < 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT);
		usleep(round * 500);
		vm_close(vm);
		close(fd);
	}
}

static void must_end(pid_t child)
{
	long start = now_ms();
	int status;

	while (!waitpid(child, &status, WNOHANG)) {
		CHECK(now_ms() - start < SOON_MS, "the killed owner is not gone after %d ms", SOON_MS);
		usleep(5000);
	}
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the owner ended by itself, status %#x", status);
}

__attribute__((noreturn)) static void load_forever(int fd)
{
	struct vm *vm = vm_open(2, FEATURES);

	vm_configure(vm, SIZE, 0, 0);
	for (unsigned int q = 0; q < 2; q++)
		CHECK(!vm_backend(vm, q, fd), "SET_BACKEND");
	for (unsigned int q = 0;; q = !q) {
		start_many(vm, q, rand() % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT);
		if (rand() % 4 == 0) {
			vm_backend(vm, q, -1);
			vm_backend(vm, q, fd);
		}
		for (int i = 0; i < IN_FLIGHT; i++)
			must_reap(vm, q);
	}
}

/* SIGKILL at any moment: the owner ends, and the descriptor with it. */
static void killed_owner(void)
{
	for (int round = 0; round < 40; round++) {
		int fd = round % 5 == 4 ? open(test_slow, O_RDWR | O_CLOEXEC | (round % 2 ? O_DIRECT : 0)) :
					  backend_open(&backends[round % 5], SIZE);
		pid_t child = fork();

		if (!child) {
			srand(round);
			load_forever(fd);
		}
		usleep(10000 + round * 3000);
		kill(child, SIGKILL);
		must_end(child);
		close(fd);
	}
}

/*
 * The worker dies with its owner's thread group only; a killed owner's requests on a frozen file system must not hold
 * it.
 */
static void killed_while_frozen(void)
{
	for (int direct = 0; direct < 2; direct++) {
		int fd = make_image("image", SIZE, O_RDWR | (direct ? O_DIRECT : 0));
		int dir = open(test_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		struct vm *vm;
		pid_t child;

		CHECK(!ioctl(dir, FIFREEZE, 0), "FIFREEZE of %s: %s", test_dir, strerror(errno));
		child = fork();
		if (!child) {
			vm = vm_open(1, FEATURES);
			vm_configure(vm, SIZE, 0, 0);
			vm_backend(vm, 0, fd);
			start_many(vm, 0, VIRTIO_BLK_T_OUT);
			pause();
		}
		usleep(300000);
		kill(child, SIGKILL);
		/* Thawed by the parent if this fails. */
		must_end(child);
		CHECK(!ioctl(dir, FITHAW, 0), "FITHAW: %s", strerror(errno));
		close(dir);
		close(fd);
	}
}

/* Writes made while frozen wait for the thaw, then succeed; meanwhile reads go on. */
static void frozen(void)
{
	int fd = make_image("image", SIZE, O_RDWR | O_DIRECT);
	int dir = open(test_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct vm *vm = vm_open(2, FEATURES);
	struct vring_used_elem used;
	bool early;
	int status;

	vm_configure(vm, SIZE, 0, 0);
	EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
	EQUAL(vm_backend(vm, 1, fd), 0, "SET_BACKEND");
	CHECK(!ioctl(dir, FIFREEZE, 0), "FIFREEZE of %s: %s", test_dir, strerror(errno));
	start_request(vm, 0, 0, VIRTIO_BLK_T_OUT, 0, DATA, 4096);
	kick(vm, 0);
	early = reap(vm, 0, &used, 300);
	status = request(vm, 1, VIRTIO_BLK_T_IN, 0, DATA + 4096, 4096);
	CHECK(!ioctl(dir, FITHAW, 0), "FITHAW: %s", strerror(errno));
	CHECK(!early, "a write to a frozen file system was answered");
	EQUAL(status, VIRTIO_BLK_S_OK, "a read while frozen");
	must_reap(vm, 0);
	EQUAL(*(uint8_t *)guest(vm, status_address(0, 0)), VIRTIO_BLK_S_OK, "the write after the thaw");
}

/* The module cannot go while a descriptor is open. */
static void unload_in_use(void)
{
	struct vm *vm = vm_open(1, FEATURES);
	int r = syscall(SYS_delete_module, "vhost_blk", O_NONBLOCK);

	CHECK(r < 0 && (errno == EWOULDBLOCK || errno == EBUSY), "unloading a module in use: %s",
	      r ? strerror(errno) : "it went");
	vm_close(vm);
}

const struct test_case lifecycle_cases[] = {
	{ "stop-drains", stop_drains },
	{ "stop-idle", stop_idle },
	{ "replace", replace },
	{ "change-under-load", change_under_load },
	{ "counters", counters },
	{ "multi-queue", multi_queue },
	{ "descriptor-per-queue", descriptor_per_queue },
	{ "close-in-flight", close_in_flight },
	{ "killed-owner", killed_owner },
	{ "killed-while-frozen", killed_while_frozen },
	{ "frozen", frozen },
	{ "unload-in-use", unload_in_use },
	{},
};
