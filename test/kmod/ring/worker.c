// SPDX-License-Identifier: GPL-2.0-or-later
/* Who does the work: a worker for each queue, one for all, another one under load, and a fair share for each queue. */
#define _GNU_SOURCE
#include "ring.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE (4 * MIB)
#define IN_FLIGHT 40
#define QUEUES 4

static void start_many(struct vm *vm, unsigned int queue)
{
	for (int i = 0; i < IN_FLIGHT; i++)
		start_request(vm, queue, i, VIRTIO_BLK_T_IN, i * 8, DATA + (queue * IN_FLIGHT + i) * PAGE, PAGE);
	kick(vm, queue);
}

/* Makes a worker for the queue; false on a kernel that has no such thing. */
static bool own_worker(struct vm *vm, unsigned int queue)
{
	struct vhost_worker_state worker = {};
	struct vhost_vring_worker vring = { .index = queue };
	int error = vm_ioctl(vm, VHOST_NEW_WORKER, &worker);

	/* Kernels before 6.5 know no such ioctl. */
	if (error == ENOTTY)
		return false;
	EQUAL(error, 0, "NEW_WORKER");
	vring.worker_id = worker.worker_id;
	must_ioctl(vm, VHOST_ATTACH_VRING_WORKER, &vring);
	return true;
}

struct thread {
	int id;
	unsigned long switches; /* how often it gave the processor up */
};

/* The worker threads of this process; the newest kernels count them as its own. */
static unsigned int find_workers(struct thread *threads, unsigned int room)
{
	char path[64], line[256], name[32];
	unsigned int count = 0;
	struct dirent *entry;
	DIR *dir = opendir("/proc/self/task");

	CHECK(dir, "/proc/self/task: %s", strerror(errno));
	snprintf(name, sizeof(name), "Name:\tvhost-%d\n", getpid());
	while ((entry = readdir(dir)) && count < room) {
		struct thread thread = { .id = atoi(entry->d_name) };
		unsigned long switches;
		bool worker = false;
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/task/%d/status", thread.id);
		file = fopen(path, "r");
		while (file && fgets(line, sizeof(line), file)) {
			worker |= !strcmp(line, name);
			/* It may be preempted before it goes to sleep, and be at it again before it does. */
			if (sscanf(line, "voluntary_ctxt_switches: %lu", &switches) == 1 ||
			    sscanf(line, "nonvoluntary_ctxt_switches: %lu", &switches) == 1)
				thread.switches += switches;
		}
		if (file)
			fclose(file);
		if (worker)
			threads[count++] = thread;
	}
	closedir(dir);
	return count;
}

static void worker_per_queue(void)
{
	struct vm *vm = vm_open(QUEUES, FEATURES);
	int fd = make_image("image", SIZE, O_RDWR | O_DIRECT);
	struct thread before[QUEUES + 1], after[QUEUES + 1];
	unsigned int workers;

	vm_configure(vm, SIZE, 0, 0);
	for (unsigned int q = 0; q < QUEUES; q++) {
		/* The first queue keeps the worker that the owner has anyway. */
		if (q && !own_worker(vm, q))
			break;
		EQUAL(vm_backend(vm, q, fd), 0, "SET_BACKEND");
	}
	for (unsigned int q = 0; q < QUEUES; q++)
		if (!vm_stats(vm, q).running)
			EQUAL(vm_backend(vm, q, fd), 0, "SET_BACKEND by the shared worker");
	workers = find_workers(before, QUEUES + 1);
	for (int round = 0; round < 20; round++) {
		for (unsigned int q = 0; q < QUEUES; q++)
			start_many(vm, q);
		for (unsigned int q = 0; q < QUEUES; q++)
			for (int i = 0; i < IN_FLIGHT; i++)
				must_reap(vm, q);
	}
	for (unsigned int q = 0; q < QUEUES; q++)
		EQUAL(vm_stats(vm, q).reads, 20 * IN_FLIGHT, "reads");
	if (!workers)
		return; /* A kernel whose workers are threads of the kernel: no queue has one of its own there. */
	EQUAL(workers, QUEUES, "worker threads");
	EQUAL(find_workers(after, QUEUES + 1), QUEUES, "worker threads afterwards");
	for (unsigned int i = 0; i < QUEUES; i++) {
		EQUAL(after[i].id, before[i].id, "the thread's id");
		CHECK(after[i].switches >= before[i].switches + 10, "worker %d got the processor %lu times only", after[i].id,
		      after[i].switches - before[i].switches);
	}
}

/* The queue changes hands while requests are under way. */
static void another_worker(void)
{
	struct vm *vm = vm_open(1, FEATURES);
	int fd = open(test_slow, O_RDWR | O_CLOEXEC | O_DIRECT);
	struct vhost_worker_state workers[2] = {};

	vm_configure(vm, SIZE, 0, 0);
	EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
	if (!own_worker(vm, 0))
		return;
	for (int i = 0; i < 2; i++)
		must_ioctl(vm, VHOST_NEW_WORKER, &workers[i]);
	for (int round = 0; round < 20; round++) {
		struct vhost_vring_worker vring = { .worker_id = workers[round % 2].worker_id };

		start_many(vm, 0);
		usleep(round * 6000);
		must_ioctl(vm, VHOST_ATTACH_VRING_WORKER, &vring);
		for (int i = 0; i < IN_FLIGHT; i++)
			must_reap(vm, 0);
		for (int i = 0; i < IN_FLIGHT; i++)
			EQUAL(*(uint8_t *)guest(vm, status_address(0, i)), VIRTIO_BLK_S_OK, "status");
	}
	EQUAL(vm_stats(vm, 0).reads, 20 * IN_FLIGHT, "reads");
}

/* The RFC's layout: a descriptor, and so a worker, for each queue of one image. They see each other's writes. */
static void descriptors_on_one_image(void)
{
	struct vm *vms[QUEUES];
	int fd = make_image("image", SIZE, O_RDWR | O_DIRECT);

	for (unsigned int i = 0; i < QUEUES; i++) {
		vms[i] = vm_open(1, FEATURES);
		vm_configure(vms[i], SIZE, 0, 0);
		EQUAL(vm_backend(vms[i], 0, fd), 0, "SET_BACKEND");
	}
	for (int round = 0; round < 10; round++) {
		for (unsigned int i = 0; i < QUEUES; i++) {
			memset(guest(vms[i], DATA), 'a' + round + i, PAGE);
			start_request(vms[i], 0, 0, VIRTIO_BLK_T_OUT, i * 8, DATA, PAGE);
			kick(vms[i], 0);
		}
		for (unsigned int i = 0; i < QUEUES; i++)
			must_reap(vms[i], 0);
		for (unsigned int i = 0; i < QUEUES; i++) {
			unsigned int other = (i + 1) % QUEUES;

			EQUAL(request(vms[i], 0, VIRTIO_BLK_T_IN, other * 8, DATA + PAGE, PAGE), VIRTIO_BLK_S_OK, "read");
			EQUAL(*(uint8_t *)guest(vms[i], DATA + PAGE), 'a' + round + other, "what another one wrote");
		}
	}
}

/*
 * A queue of which the guest makes a thousand requests available, and a neighbour on the same worker with one. The
 * neighbour's is a write, and what it writes is the used index of the flooded queue: so many were served before it.
 */
static void fair_share(void)
{
	enum { NUM = 1024, WEIGHT = 256 };
	const uint64_t table = DATA + 1 * MIB, avail_at = table + 64 * KIB, used_at = table + 128 * KIB;
	const struct vring_desc chain[] = {
		{ .addr = header_address(0, 0), .len = 16, .flags = VRING_DESC_F_NEXT, .next = 1 },
		{ .addr = DATA, .len = 20, .flags = VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, .next = 2 },
		{ .addr = status_address(0, 0), .len = 1, .flags = VRING_DESC_F_WRITE },
	};
	int fd = open(test_block, O_RDWR | O_CLOEXEC | O_DIRECT);
	struct vm *vm = vm_open(2, FEATURES);
	struct vhost_vring_addr address = {
		.desc_user_addr = (uintptr_t)guest(vm, table),
		.avail_user_addr = (uintptr_t)guest(vm, avail_at),
		.used_user_addr = (uintptr_t)guest(vm, used_at),
	};
	struct vhost_vring_state state = { .num = NUM };
	struct vhost_vring_file file = { .index = 0, .fd = vm->ring[1].kick };
	struct vring_avail *avail = guest(vm, avail_at);
	struct vring_used *used = guest(vm, used_at);
	static uint8_t block[PAGE];
	uint16_t served;

	must_ioctl(vm, VHOST_SET_VRING_NUM, &state);
	must_ioctl(vm, VHOST_SET_VRING_ADDR, &address);
	memcpy(guest(vm, table), chain, sizeof(chain));
	/* One eventfd wakes both, the flooded queue first: waiters are woken from the newest on. */
	must_ioctl(vm, VHOST_SET_VRING_KICK, &file);
	vm_configure(vm, SIZE, 0, 0);
	for (unsigned int q = 0; q < 2; q++)
		EQUAL(vm_backend(vm, q, fd), 0, "SET_BACKEND");
	/* The worker has looked at both after their start, the flooded one first, and has let go of them. */
	EQUAL(request(vm, 1, VIRTIO_BLK_T_GET_ID, 0, DATA, 20), VIRTIO_BLK_S_OK, "GET_ID");
	vm_base(vm, 1);
	put_header(vm, header_address(0, 0), VIRTIO_BLK_T_GET_ID, 0);
	__atomic_store_n(&avail->idx, NUM, __ATOMIC_SEQ_CST);
	start_request(vm, 1, 0, VIRTIO_BLK_T_OUT, 0, used_at, PAGE);
	kick(vm, 1);
	must_reap(vm, 1);
	for (int waited = 0; waited < SOON_MS && __atomic_load_n(&used->idx, __ATOMIC_SEQ_CST) != NUM; waited += 10)
		usleep(10000);
	EQUAL(used->idx, NUM, "answered requests of the flooded queue");
	backend_read(&backends[3], 0, block, sizeof(block));
	served = ((struct vring_used *)block)->idx;
	CHECK(served >= 1 && served <= 2 * WEIGHT, "the neighbour was served after %u of %d requests of the flooded queue", served,
	      NUM);
}

const struct test_case worker_cases[] = {
	{ "worker-per-queue", worker_per_queue },
	{ "another-worker", another_worker },
	{ "descriptors-on-one-image", descriptors_on_one_image },
	{ "fair-share", fair_share },
	{},
};
