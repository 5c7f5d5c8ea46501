// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The VMM's side. The polite one does what a VMM may do under load, and what must be refused without effect; the wild one
 * anything at all.
 */
#define _GNU_SOURCE
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KERNEL_ADDRESS 0xffff888000000000ULL

struct vmm {
	struct run *run;
	struct vm *vm;
	struct random random;
	int workers[4]; /* ids, -1 for none */
	uint8_t *log;   /* the wild one's */
	uint8_t *image_map;
};

static void doing(const char *what)
{
	snprintf(shared->doing, sizeof(shared->doing), "%s", what);
}

static int call(struct vmm *v, unsigned long request, void *arg)
{
	atomic_fetch_add(&shared->ioctls, 1);
	return vm_ioctl(v->vm, request, arg);
}

/* Of the wild VMM's calls none need succeed. */
static void succeeded(struct vmm *v, int error, const char *what)
{
	CHECK(!error || v->run->life->wild, "%s: %s", what, strerror(error));
}

/* The same, where requests that a hostile guest's queue holds may stand in the way. */
static bool succeeded_unless_held(struct vmm *v, int error, const char *what)
{
	if (error == EBUSY && v->run->life->hostile)
		return false;
	succeeded(v, error, what);
	return true;
}

static void refused(int error, const char *what)
{
	CHECK(error, "%s was not refused", what);
	atomic_fetch_add(&shared->refused, 1);
}

static unsigned int any_queue(struct vmm *v)
{
	return below(&v->random, v->vm->queues);
}

static unsigned int tame_queue(struct vmm *v)
{
	return below(&v->random, v->run->life->tame);
}

static void check_stopped(struct vmm *v, unsigned int queue)
{
	struct vhost_blk_stats stats = vm_stats(v->vm, queue);

	EQUAL(stats.running, 0, "running after a stop");
	EQUAL(stats.inflight, 0, "in flight after a stop");
	EQUAL((uint16_t)vm_base(v->vm, queue), v->vm->ring[queue].used->idx, "the next index after a stop, and the used index");
}

static void stop_and_start(struct vmm *v)
{
	unsigned int queue = tame_queue(v);
	int fd = open_backend(v->run->life, true, &v->random), error;

	doing("stopping and starting");
	EQUAL(vm_backend(v->vm, queue, -1), 0, "stopping");
	check_stopped(v, queue);
	if (chance(&v->random, 20))
		usleep(below(&v->random, 2000));
	error = vm_backend(v->vm, queue, fd);
	EQUAL(error, 0, "starting");
	close(fd);
}

static void replace(struct vmm *v)
{
	int fd = open_backend(v->run->life, true, &v->random);

	doing("replacing a backend");
	EQUAL(vm_backend(v->vm, tame_queue(v), fd), 0, "replacing a backend");
	close(fd);
}

static void pause_and_resume(struct vmm *v)
{
	struct vhost_blk_pause pause = { chance(&v->random, 30) ? VHOST_BLK_ALL_QUEUES : tame_queue(v), 1 };
	struct vhost_blk_event event = { VHOST_BLK_EVENT_DRAINED, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	bool stop = pause.queue != VHOST_BLK_ALL_QUEUES && chance(&v->random, 40);
	uint64_t count;

	doing("pausing");
	EQUAL(call(v, VHOST_BLK_SET_EVENT, &event), 0, "SET_EVENT");
	EQUAL(call(v, VHOST_BLK_PAUSE, &pause), 0, "PAUSE");
	doing("waiting for DRAINED");
	for (int i = 0; pause.queue != VHOST_BLK_ALL_QUEUES && read(event.fd, &count, sizeof(count)) < 0; i++) {
		CHECK(i < 20000, "queue %u was paused, and DRAINED did not come within 20 s", pause.queue);
		usleep(1000);
	}
	if (stop) {
		int fd = open_backend(v->run->life, true, &v->random);

		doing("stopping a paused queue");
		EQUAL(vm_backend(v->vm, pause.queue, -1), 0, "stopping a paused queue");
		check_stopped(v, pause.queue);
		EQUAL(vm_backend(v->vm, pause.queue, fd), 0, "starting");
		close(fd);
	} else {
		pause.paused = 0;
		EQUAL(call(v, VHOST_BLK_PAUSE, &pause), 0, "resuming");
	}
	close(event.fd);
	event.fd = -1;
	EQUAL(call(v, VHOST_BLK_SET_EVENT, &event), 0, "SET_EVENT");
}

static void toggle_log(struct vmm *v)
{
	bool on = atomic_load(&v->run->log_epoch) & 1;
	uint64_t features = v->vm->features ^ 1ULL << VHOST_F_LOG_ALL;
	bool done;

	if (!v->vm->log)
		return;
	doing("toggling the log");
	if (on)
		atomic_fetch_add(&v->run->log_epoch, 1);
	done = succeeded_unless_held(v, call(v, VHOST_SET_FEATURES, &features), "toggling the log");
	if (done)
		v->vm->features = features;
	/* Nobody writes it now but the used rings, which are logged always. */
	if (on && done)
		memset(v->vm->log, 0, GUEST_END / PAGE / 8 + 8);
	else if (on || done)
		atomic_fetch_add(&v->run->log_epoch, 1);
}

static void set_memory(struct vmm *v)
{
	doing("setting the memory table");
	succeeded_unless_held(v, run_memory(v->run), "the same memory table again");
}

static void configure(struct vmm *v)
{
	const struct life *life = v->run->life;
	uint32_t flags = life->flags;

	if (chance(&v->random, 50))
		flags ^= VHOST_BLK_CONFIG_WRITETHROUGH;
	if (chance(&v->random, 30))
		flags |= VHOST_BLK_CONFIG_NO_FLUSH;
	if (chance(&v->random, 20))
		flags |= VHOST_BLK_CONFIG_HOLD_READ | VHOST_BLK_CONFIG_HOLD_WRITE;
	doing("configuring");
	EQUAL(vm_configure(v->vm, life->capacity, life->offset, flags), 0, "SET_CONFIG");
}

/* A hostile guest can shorten no file, but its requests may fail in the storage, and then everything waits for us. */
static void release_held(struct vmm *v)
{
	struct vhost_blk_held held[4];
	struct vhost_blk_held_list list = { any_queue(v), 4, (uintptr_t)held, {} };
	uint32_t action = below(&v->random, 2);

	doing("releasing what is held");
	EQUAL(call(v, VHOST_BLK_GET_HELD, &list), 0, "GET_HELD");
	EQUAL(call(v, VHOST_BLK_RELEASE_HELD, &action), 0, "RELEASE_HELD");
}

static void read_all(struct vmm *v)
{
	struct vhost_vring_state state = { .index = any_queue(v) };
	struct vhost_blk_stats stats = { .queue = any_queue(v) };
	struct vhost_blk_latency latency = { .queue = any_queue(v), .type = below(&v->random, VHOST_BLK_LATENCY_TYPES) };
	struct vhost_blk_info info;
	uint64_t features;
	char path[64], text[4096];
	int fd;

	doing("reading");
	succeeded(v, call(v, VHOST_BLK_GET_INFO, &info), "GET_INFO");
	succeeded(v, call(v, VHOST_GET_FEATURES, &features), "GET_FEATURES");
	succeeded(v, call(v, VHOST_GET_VRING_BASE, &state), "GET_VRING_BASE");
	succeeded(v, call(v, VHOST_BLK_GET_STATS, &stats), "GET_STATS");
	succeeded(v, call(v, VHOST_BLK_GET_LATENCY, &latency), "GET_LATENCY");
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", v->vm->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	succeeded(v, fd < 0 || read(fd, text, sizeof(text)) <= 0 ? errno : 0, path);
	close(fd);
}

/* Kernels before 6.5 have one worker for all. */
static void change_worker(struct vmm *v)
{
	int *slot = &v->workers[below(&v->random, 4)];
	struct vhost_worker_state worker = {};
	struct vhost_vring_worker vring = { .index = any_queue(v) };

	doing("changing workers");
	if (*slot < 0) {
		if (!call(v, VHOST_NEW_WORKER, &worker))
			*slot = worker.worker_id;
	} else if (chance(&v->random, 70)) {
		vring.worker_id = *slot;
		call(v, VHOST_ATTACH_VRING_WORKER, &vring);
	} else {
		worker.worker_id = *slot;
		/* EBUSY while a queue has it. */
		if (!call(v, VHOST_FREE_WORKER, &worker))
			*slot = -1;
	}
}

static void poll_busily(struct vmm *v)
{
	struct vhost_vring_state state = { any_queue(v), below(&v->random, 100) };

	doing("setting the busy loop");
	EQUAL(call(v, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &state), 0, "SET_VRING_BUSYLOOP_TIMEOUT");
	if (chance(&v->random, 70)) {
		state.num = 0;
		EQUAL(call(v, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &state), 0, "SET_VRING_BUSYLOOP_TIMEOUT");
	}
}

static void set_error_event(struct vmm *v)
{
	struct vhost_vring_file file = { any_queue(v), eventfd(0, EFD_CLOEXEC) };

	doing("setting the error eventfd");
	EQUAL(call(v, VHOST_SET_VRING_ERR, &file), 0, "SET_VRING_ERR");
	close(file.fd);
}

/* Files that may not back a disk; the caller closes it. */
static int wrong_file(struct vmm *v)
{
	const struct life *life = v->run->life;
	const char *path = life->image->path;
	int pair[2];

	switch (below(&v->random, 14)) {
	case 0:
		return open(path, O_RDWR | O_APPEND | O_CLOEXEC);
	case 1:
		return open(path, O_WRONLY | O_CLOEXEC);
	case 2:
		return open(path, O_PATH | O_CLOEXEC);
	case 3:
		return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case 4:
		return open("/dev/zero", O_RDWR | O_CLOEXEC);
	case 5:
		return open("/dev/kmsg", O_RDWR | O_CLOEXEC);
	case 6:
		return open("/dev/vhost-blk", O_RDWR | O_CLOEXEC);
	case 7:
		return dup(v->vm->fd);
	case 8:
		return eventfd(0, EFD_CLOEXEC);
	case 9:
		return open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	case 10:
		return memfd_create("fuzz", MFD_CLOEXEC); /* too small */
	case 11:
		return open("/sys/kernel/notes", O_RDONLY | O_CLOEXEC);
	default:
		if (chance(&v->random, 50) ? pipe2(pair, O_CLOEXEC) : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
			return -2;
		close(pair[1]);
		return pair[0];
	}
}

static void refuse_file(struct vmm *v)
{
	int fd = chance(&v->random, 10) ? 9999 : wrong_file(v);

	doing("a wrong file");
	/* -1 would be a stop. */
	if (fd >= 0)
		refused(vm_backend(v->vm, any_queue(v), fd), "a file of the wrong kind");
	close(fd);
}

static void refuse_index(struct vmm *v)
{
	const uint32_t indices[] = { v->vm->queues, v->vm->queues + 1, 64, 65, 0x7fffffff, 0x80000000, 0xffffffff };
	uint32_t index = PICK(&v->random, indices);
	struct vhost_vring_state state = { index, 0 };
	struct vhost_vring_addr address = { .index = index };
	struct vhost_vring_file file = { index, -1 };
	struct vhost_blk_stats stats = { .queue = index };
	struct vhost_blk_pause pause = { index, 1 };
	struct vhost_blk_latency latency = { .queue = index };
	struct vhost_blk_held_list list = { .queue = index };

	doing("a wrong queue");
	refused(vm_backend(v->vm, index, -1), "SET_BACKEND of a queue that is not there");
	refused(call(v, VHOST_GET_VRING_BASE, &state), "GET_VRING_BASE of a queue that is not there");
	refused(call(v, VHOST_SET_VRING_NUM, &state), "SET_VRING_NUM of a queue that is not there");
	refused(call(v, VHOST_SET_VRING_ADDR, &address), "SET_VRING_ADDR of a queue that is not there");
	refused(call(v, VHOST_SET_VRING_KICK, &file), "SET_VRING_KICK of a queue that is not there");
	refused(call(v, VHOST_BLK_GET_STATS, &stats), "GET_STATS of a queue that is not there");
	if (index != VHOST_BLK_ALL_QUEUES)
		refused(call(v, VHOST_BLK_PAUSE, &pause), "PAUSE of a queue that is not there");
	refused(call(v, VHOST_BLK_GET_LATENCY, &latency), "GET_LATENCY of a queue that is not there");
	refused(call(v, VHOST_BLK_GET_HELD, &list), "GET_HELD of a queue that is not there");
}

/* What may not be changed under a running queue, and rings where none can be. */
static void refuse_ring(struct vmm *v)
{
	unsigned int queue = tame_queue(v);
	struct ring *ring = &v->vm->ring[queue];
	struct vhost_vring_state state = { queue, 64 };
	struct vhost_vring_addr good = { queue, 0, (uintptr_t)ring->desc, (uintptr_t)ring->used, (uintptr_t)ring->avail, 0 };
	struct vhost_vring_addr address = good;

	doing("a wrong ring");
	refused(call(v, VHOST_SET_VRING_NUM, &state), "another ring size under a running queue");
	refused(call(v, VHOST_SET_VRING_BASE, &state), "another index under a running queue");
	switch (below(&v->random, 6)) {
	case 0:
		address.desc_user_addr = KERNEL_ADDRESS;
		break;
	case 1:
		address.used_user_addr = KERNEL_ADDRESS;
		break;
	case 2:
		address.avail_user_addr = KERNEL_ADDRESS;
		break;
	case 3:
		address.avail_user_addr += 1;
		break;
	case 4:
		address.used_user_addr += 1 + below(&v->random, 3);
		break;
	case 5:
		address.flags = ~0u;
	}
	refused(call(v, VHOST_SET_VRING_ADDR, &address), "a ring at a wrong address under a running queue");
}

static void refuse_memory(struct vmm *v)
{
	struct {
		struct vhost_memory memory;
		struct vhost_memory_region region;
	} table = { { 1, 0 }, { GUEST_BASE, REGION_SIZE, KERNEL_ADDRESS, 0 } };

	doing("a wrong memory table");
	switch (below(&v->random, 4)) {
	case 1:
		table.memory.nregions = 0x10000 + below(&v->random, 1u << 31);
		break;
	case 2:
		table.memory.padding = 1;
		break;
	case 3:
		table.region.userspace_addr = UINT64_MAX - below(&v->random, REGION_SIZE);
	}
	refused(call(v, VHOST_SET_MEM_TABLE, &table), "a wrong memory table");
}

static void refuse_settings(struct vmm *v)
{
	const struct life *life = v->run->life;
	struct vhost_blk_config config = { .capacity = life->capacity, .offset = life->offset, .flags = life->flags };
	uint64_t features = v->vm->features | 1ULL << (chance(&v->random, 50) ? VIRTIO_F_RING_PACKED : 50);
	uint32_t queues = 1 + below(&v->random, 64);

	doing("wrong settings");
	switch (below(&v->random, 7)) {
	case 0:
		config.capacity = IMAGE_SIZE + 128 * MIB;
		break;
	case 1:
		config.offset = 0 - config.capacity;
		break;
	case 2:
		config.capacity += 1 + below(&v->random, 511);
		break;
	case 3:
		config.flags |= 1u << (7 + below(&v->random, 25));
		break;
	case 4:
		config.reserved[below(&v->random, 9)] = 1;
		break;
	case 5:
		config.reserved0 = next(&v->random) | 1;
		break;
	case 6:
		config.capacity = 0;
	}
	refused(call(v, VHOST_BLK_SET_CONFIG, &config), "a wrong configuration");
	refused(call(v, VHOST_SET_FEATURES, &features), "features that are not offered");
	refused(call(v, VHOST_BLK_SET_QUEUES, &queues), "another number of queues");
	refused(call(v, VHOST_SET_OWNER, NULL), "a second owner");
}

static const unsigned long with_argument[] = {
	VHOST_BLK_SET_BACKEND, VHOST_BLK_GET_INFO, VHOST_BLK_SET_QUEUES, VHOST_BLK_SET_CONFIG, VHOST_BLK_GET_STATS,
	VHOST_GET_FEATURES, VHOST_SET_FEATURES, VHOST_SET_MEM_TABLE, VHOST_SET_VRING_NUM, VHOST_SET_VRING_BASE,
	VHOST_GET_VRING_BASE, VHOST_SET_VRING_ADDR, VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR,
	VHOST_BLK_SET_EVENT, VHOST_BLK_PAUSE, VHOST_BLK_GET_HELD, VHOST_BLK_RELEASE_HELD, VHOST_BLK_GET_LATENCY,
	VHOST_SET_LOG_BASE, VHOST_SET_LOG_FD, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, VHOST_NEW_WORKER, VHOST_FREE_WORKER,
	VHOST_ATTACH_VRING_WORKER,
};

static void refuse_pointer(struct vmm *v)
{
	void *const pointers[] = { NULL, (void *)8, (void *)KERNEL_ADDRESS, (void *)-1L, (void *)-4096L,
				   v->vm->memory + REGION_SIZE };
	/* A new worker is made before its id cannot be told. */
	unsigned long request = PICK(&v->random, with_argument);

	doing("a wrong pointer");
	if (request != VHOST_NEW_WORKER)
		refused(call(v, request, PICK(&v->random, pointers)), "an argument at a wrong address");
}

static void refuse_unknown(struct vmm *v)
{
	uint8_t zeroes[256] = {};
	/* Neither ours nor of the vhost core: other clients' and future ones. */
	unsigned long request = _IOC(below(&v->random, 4), VHOST_VIRTIO, 0x5a + below(&v->random, 0x15), below(&v->random, 200));

	doing("an unknown ioctl");
	refused(call(v, request, zeroes), "an unknown ioctl");
}

/* The same descriptor in another address space. */
static void refuse_stranger(struct vmm *v)
{
	struct vhost_vring_file file = { 0, -1 };
	int status = 0;
	pid_t child;

	doing("a foreign process");
	child = fork();
	if (!child)
		_exit(ioctl(v->vm->fd, VHOST_BLK_SET_BACKEND, &file) == 0);
	CHECK(child < 0 || waitpid(child, &status, 0) == child, "waitpid: %s", strerror(errno));
	refused(!status, "an ioctl of a foreign process");
}

void polite_vmm(struct run *run)
{
	static void (*const steps[])(struct vmm *) = {
		stop_and_start, stop_and_start, replace, toggle_log, set_memory, configure, read_all, change_worker, poll_busily,
		set_error_event, refuse_file, refuse_index, refuse_ring, refuse_memory, refuse_settings, refuse_pointer,
		refuse_unknown,
	};
	struct vmm v = { .run = run, .vm = run->vm, .random = { run->life->seed * 7 }, .workers = { -1, -1, -1, -1 } };

	while (!atomic_load(&run->over)) {
		if (chance(&v.random, 10))
			pause_and_resume(&v);
		else if (chance(&v.random, 1))
			refuse_stranger(&v);
		else
			PICK(&v.random, steps)(&v);
		release_held(&v);
		doing("nothing");
		usleep(below(&v.random, 4000));
	}
}

/* From here on nothing need succeed. */

static uint64_t wild_address(struct vmm *v)
{
	struct random *r = &v->random;
	const uint64_t odd[] = { 0, 1, KERNEL_ADDRESS, KERNEL_ADDRESS + below(r, 1 << 30), UINT64_MAX - below(r, 8192),
				 0x00007ffffffff000ULL - below(r, 8192), 1ULL << 63, (uintptr_t)v->vm->memory + REGION_SIZE };

	switch (below(r, 4)) {
	case 0:
		return PICK(r, odd);
	case 1:
		return (uintptr_t)v->run->volatile_memory + below(r, VOLATILE_SIZE);
	default:
		/* Memory of the hostile guests, often aligned as a ring must be: rings may overlap. Two more areas follow. */
		return (uintptr_t)guest(v->vm, HOSTILE_AREA(0) + (below(r, HOSTILE_SIZE) & (chance(r, 80) ? ~15ULL : ~0ULL)));
	}
}

static int wild_file(struct vmm *v)
{
	return chance(&v->random, 60) ? open_backend(v->run->life, false, &v->random) : wrong_file(v);
}

static void wild_backend(struct vmm *v)
{
	int fd = wild_file(v);

	vm_backend(v->vm, any_queue(v), chance(&v->random, 30) ? -1 : fd);
	close(fd);
}

static void wild_ring(struct vmm *v)
{
	struct random *r = &v->random;
	const uint32_t nums[] = { 0, 1, 2, 3, 4, 128, 256, 1024, 32768, 65536, 0xffffffff, (uint32_t)next(r) };
	struct vhost_vring_state state = { any_queue(v), PICK(r, nums) };
	struct vhost_vring_addr address = { any_queue(v), chance(r, 90) ? below(r, 2) : next(r), wild_address(v), wild_address(v),
					    wild_address(v), hostile_address(r, 0) };

	switch (below(r, 4)) {
	case 0:
		call(v, VHOST_SET_VRING_NUM, &state);
		break;
	case 1:
		call(v, VHOST_SET_VRING_BASE, &state);
		break;
	case 2:
		call(v, VHOST_SET_VRING_ENDIAN, &state);
		break;
	case 3:
		call(v, VHOST_SET_VRING_ADDR, &address);
	}
}

static void wild_events(struct vmm *v)
{
	static const unsigned long requests[] = { VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR, VHOST_SET_LOG_FD };
	struct vhost_vring_file file = { any_queue(v), wild_file(v) };
	struct vhost_blk_event event = { below(&v->random, 3), wild_file(v) };
	unsigned long request = PICK(&v->random, requests);

	if (request == VHOST_SET_LOG_FD)
		call(v, request, &file.fd);
	else
		call(v, request, &file);
	close(file.fd);
	/* So that the guest is served again. */
	file.fd = v->vm->ring[file.index].kick;
	if (request == VHOST_SET_VRING_KICK && chance(&v->random, 90))
		call(v, request, &file);
	call(v, VHOST_BLK_SET_EVENT, &event);
	close(event.fd);
}

static void wild_memory(struct vmm *v)
{
	struct random *r = &v->random;
	struct {
		struct vhost_memory memory;
		struct vhost_memory_region regions[4];
	} table = { .memory.nregions = 1 + below(r, 4) };

	for (int i = 0; i < 4; i++)
		table.regions[i] = (struct vhost_memory_region){ hostile_address(r, 0), PAGE * below(r, 64), wild_address(v), 0 };
	if (chance(r, 30))
		call(v, VHOST_SET_MEM_TABLE, &table);
	else
		run_memory(v->run);
}

static void wild_log(struct vmm *v)
{
	uint64_t base = chance(&v->random, 60) ? (uintptr_t)v->log : wild_address(v) & ~(PAGE - 1);
	uint64_t features = v->run->life->features | (uint64_t)below(&v->random, 2) << VHOST_F_LOG_ALL;

	call(v, VHOST_SET_LOG_BASE, &base);
	if (chance(&v->random, 10))
		features = next(&v->random);
	/* A log outside ours would be written to. */
	base = (uintptr_t)v->log;
	call(v, VHOST_SET_LOG_BASE, &base);
	call(v, VHOST_SET_FEATURES, &features);
}

/* The pages of buffers go away while requests use them. */
static void wild_pages(struct vmm *v)
{
	struct random *r = &v->random;
	uint8_t *at = v->run->volatile_memory + below(r, VOLATILE_SIZE / PAGE) * PAGE;
	size_t length = v->run->volatile_memory + VOLATILE_SIZE - at;
	static const int protections[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
	int fd;

	switch (below(r, 5)) {
	case 0:
		mprotect(at, length, PICK(r, protections));
		break;
	case 1:
		/* Not unmapped: another thread's memory could take the place. */
		mmap(at, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		break;
	case 2:
		madvise(at, length, MADV_DONTNEED);
		break;
	case 3: /* the very file that is the disk */
		fd = image_open(v->run->life->hostile_image, O_RDONLY);
		mmap(at, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0);
		close(fd);
		break;
	case 4:
		mmap(at, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	}
}

static void wild_ours(struct vmm *v)
{
	struct random *r = &v->random;
	struct vhost_blk_pause pause = { chance(r, 80) ? any_queue(v) : next(r), below(r, 3) };
	struct vhost_blk_held held[8];
	struct vhost_blk_held_list list = { any_queue(v), below(r, 9), chance(r, 80) ? (uintptr_t)held : wild_address(v), {} };
	uint32_t action = below(r, 3);

	switch (below(r, 4)) {
	case 0:
		call(v, VHOST_BLK_PAUSE, &pause);
		break;
	case 1:
		call(v, VHOST_BLK_GET_HELD, &list);
		break;
	case 2:
		call(v, VHOST_BLK_RELEASE_HELD, &action);
		break;
	case 3:
		vm_configure(v->vm, v->run->life->capacity, v->run->life->offset,
			     v->run->life->flags | below(r, 128) << 1);
	}
	/* Lest the rest of the life pass in silence. */
	pause = (struct vhost_blk_pause){ VHOST_BLK_ALL_QUEUES, 0 };
	if (chance(r, 80))
		call(v, VHOST_BLK_PAUSE, &pause);
}

static void wild_owner(struct vmm *v)
{
	/* A queue needs all of it anew afterwards: rarely. */
	if (chance(&v->random, 90))
		return;
	call(v, VHOST_RESET_OWNER, NULL);
	call(v, VHOST_SET_OWNER, NULL);
	run_memory(v->run);
}

static void wild_worker(struct vmm *v)
{
	struct vhost_worker_state worker = { .worker_id = below(&v->random, 6) };
	struct vhost_vring_worker vring = { any_queue(v), below(&v->random, 6) };
	struct vhost_vring_state state = { any_queue(v), chance(&v->random, 90) ? below(&v->random, 50) : next(&v->random) % 100000 };

	switch (below(&v->random, 4)) {
	case 0:
		call(v, VHOST_NEW_WORKER, &worker);
		break;
	case 1:
		call(v, VHOST_FREE_WORKER, &worker);
		break;
	case 2:
		call(v, VHOST_ATTACH_VRING_WORKER, &vring);
		break;
	case 3:
		call(v, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &state);
	}
}

static void wild_argument(struct vmm *v)
{
	uint64_t argument[64];
	unsigned long request = PICK(&v->random, with_argument);

	for (unsigned int i = 0; i < 64; i++)
		argument[i] = chance(&v->random, 50) ? 0 : chance(&v->random, 50) ? below(&v->random, 8) : wild_address(v);
	/* These would have the kernel write, as it is asked to, where we live. */
	if (request != VHOST_SET_LOG_BASE && request != VHOST_BLK_GET_HELD && request != VHOST_SET_MEM_TABLE)
		call(v, request, argument);
}

void wild_vmm(struct run *run)
{
	static const struct {
		void (*step)(struct vmm *);
		const char *name;
	} steps[] = {
		{ wild_backend, "SET_BACKEND" }, { wild_ring, "a ring's address" }, { wild_events, "eventfds" },
		{ wild_memory, "memory table" }, { wild_log, "log" }, { wild_pages, "pages" }, { wild_ours, "pause and held" },
		{ wild_owner, "owner" }, { wild_worker, "workers" }, { wild_argument, "any argument" },
		{ refuse_unknown, "unknown" }, { read_all, "reading" }, { refuse_pointer, "a wrong pointer" },
	};
	struct vmm v = { .run = run, .vm = run->vm, .random = { run->life->seed * 7 }, .workers = { -1, -1, -1, -1 } };

	/* For every page below the end of what is volatile. */
	v.log = mmap(NULL, (VOLATILE_BASE + VOLATILE_SIZE) / PAGE / 8 + PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(v.log != MAP_FAILED, "no memory for a log");
	while (!atomic_load(&run->over)) {
		unsigned int i = below(&v.random, sizeof(steps) / sizeof(*steps));

		doing(steps[i].name);
		steps[i].step(&v);
		doing("nothing");
		usleep(below(&v.random, 3000));
	}
}
