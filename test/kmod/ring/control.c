// SPDX-License-Identifier: GPL-2.0-or-later
/* What a VMM asks for without waiting: pause, events; and changes of what the disk presents. */
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE (4 * MIB)
#define IN_FLIGHT 40
/* What may not wait for storage answers within this, however slow the machine. */
#define AT_ONCE_MS 10000

static void start_many(struct vm *vm, unsigned int queue)
{
	for (int i = 0; i < IN_FLIGHT; i++)
		start_request(vm, queue, i, VIRTIO_BLK_T_IN, i * 8, DATA + i * PAGE, PAGE);
	kick(vm, queue);
}

static void wait_until_drained(struct vm *vm, int event, unsigned int queue)
{
	for (long start = now_ms(); vm_stats(vm, queue).inflight;) {
		CHECK(now_ms() - start < SOON_MS, "queue %u has not drained", queue);
		CHECK(event_came(event, SOON_MS) || !vm_stats(vm, queue).inflight, "no DRAINED event");
	}
}

/* Paused under load: what was taken is answered, the event comes, a stop finds nothing to wait for; then all goes on. */
static void pause_and_stop(void)
{
	int fd = open(test_slow, O_RDWR | O_CLOEXEC | O_DIRECT);
	struct vm *vm = vm_open(2, FEATURES);
	int event = vm_event(vm, VHOST_BLK_EVENT_DRAINED);

	vm_configure(vm, SIZE, 0, 0);
	for (int round = 0; round < 6; round++) {
		uint32_t which = round % 2 ? VHOST_BLK_ALL_QUEUES : 0;
		struct vhost_blk_stats stats;
		uint16_t used;

		for (unsigned int q = 0; q < 2; q++)
			EQUAL(vm_backend(vm, q, fd), 0, "SET_BACKEND");
		event_came(event, 0);
		start_many(vm, 0);
		usleep(round * 3000);
		EQUAL(vm_pause(vm, which, 1), 0, "PAUSE");
		stats = vm_stats(vm, 0);
		EQUAL(stats.paused, 1, "paused");
		EQUAL(vm_stats(vm, 1).paused, round % 2, "the other queue is paused");
		wait_until_drained(vm, event, 0);
		used = vm->ring[0].used->idx;
		/* Made available to a paused queue. */
		kick(vm, 0);
		usleep(150000);
		EQUAL(vm->ring[0].used->idx, used, "used index of a paused queue");
		if (round < 3) {
			EQUAL(vm_backend(vm, 0, -1), 0, "stopping");
			EQUAL((uint16_t)vm_base(vm, 0), used, "the next index after the stop");
			EQUAL(vm_stats(vm, 0).paused, 0, "paused after the stop");
			EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
			vm_pause(vm, which, 0);
		} else {
			EQUAL(vm_pause(vm, which, 0), 0, "PAUSE off");
		}
		for (int i = 0; i < IN_FLIGHT; i++)
			must_reap(vm, 0);
		for (int i = 0; i < IN_FLIGHT; i++)
			EQUAL(*(uint8_t *)guest(vm, status_address(0, i)), VIRTIO_BLK_S_OK, "status");
	}
}

/* One request hangs, another is answered while the queue is paused: DRAINED is for the last one, not for the first. */
static void pause_waits_for_all(void)
{
	int fd = make_image("image", SIZE, O_RDWR | O_DIRECT), slow = open(test_slow, O_RDWR | O_CLOEXEC | O_DIRECT);
	int dir = open(test_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int hanging = 0; hanging < 2; hanging++) {
		struct vm *vm = vm_open(1, FEATURES);
		int event = vm_event(vm, VHOST_BLK_EVENT_DRAINED);
		bool early, answered;

		vm_configure(vm, SIZE, 0, 0);
		EQUAL(vm_backend(vm, 0, hanging ? fd : slow), 0, "SET_BACKEND");
		if (hanging)
			CHECK(!ioctl(dir, FIFREEZE, 0), "FIFREEZE of %s: %s", test_dir, strerror(errno));
		start_request(vm, 0, 0, hanging ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, 0, DATA, 4096);
		start_request(vm, 0, 1, VIRTIO_BLK_T_IN, 8, DATA + PAGE, 4096);
		kick(vm, 0);
		/* On a busy machine both may be answered already, but for the one that hangs. */
		if (hanging)
			await_inflight(vm, 0, 1);
		else
			for (long start = now_ms(); now_ms() - start < SLOW_MS && !vm_stats(vm, 0).inflight;)
				usleep(1000);
		vm_pause(vm, 0, 1);
		early = event_came(event, hanging ? 300 : 0);
		answered = !vm_stats(vm, 0).inflight;
		if (hanging)
			CHECK(!ioctl(dir, FITHAW, 0), "FITHAW: %s", strerror(errno));
		CHECK(!early || answered, "the DRAINED event came before all was answered");
		CHECK(early || event_came(event, SOON_MS), "no DRAINED event");
		EQUAL(vm_stats(vm, 0).inflight, 0, "in flight after the DRAINED event");
		vm_close(vm);
	}
	close(dir);
}

static void pause_arguments(void)
{
	struct vm *vm = vm_open(1, FEATURES);
	int event = vm_event(vm, VHOST_BLK_EVENT_DRAINED);
	struct vhost_blk_event arg = { .event = 2, .fd = event };

	EQUAL(vm_ioctl(vm, VHOST_BLK_SET_EVENT, &arg), EINVAL, "an unknown event");
	arg = (struct vhost_blk_event){ .event = 0, .fd = open("/dev/null", O_RDONLY | O_CLOEXEC) };
	EQUAL(vm_ioctl(vm, VHOST_BLK_SET_EVENT, &arg), EINVAL, "an event by what is no eventfd");
	arg.fd = 12345;
	EQUAL(vm_ioctl(vm, VHOST_BLK_SET_EVENT, &arg), EBADF, "an event by no descriptor");
	EQUAL(vm_pause(vm, 0, 2), EINVAL, "paused 2");
	EQUAL(vm_pause(vm, 1, 1), ENOBUFS, "a queue that is not there");
	CHECK(!event_came(event, 0), "an event without a pause");
	EQUAL(vm_pause(vm, 0, 1), 0, "PAUSE");
	CHECK(event_came(event, 0), "no event at once for an idle queue");
	arg.fd = -1;
	EQUAL(vm_ioctl(vm, VHOST_BLK_SET_EVENT, &arg), 0, "no eventfd any more");
	EQUAL(vm_pause(vm, 0, 1), 0, "PAUSE");
	CHECK(!event_came(event, 50), "an eventfd that was taken back is signalled");
}

struct waiter {
	struct vm *vm;
	bool memory;
	int result;
	volatile bool done;
};

static void *wait_for_storage(void *arg)
{
	struct waiter *waiter = arg;

	if (waiter->memory)
		vm_set_memory(waiter->vm);
	else
		waiter->result = vm_backend(waiter->vm, 0, -1);
	waiter->done = true;
	return NULL;
}

static bool fdinfo_answers(struct vm *vm)
{
	char path[64], text[4096];
	FILE *file;
	size_t n;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", vm->fd);
	file = fopen(path, "r");
	if (!file)
		return false;
	n = fread(text, 1, sizeof(text) - 1, file);
	text[n] = 0;
	fclose(file);
	return strstr(text, "vhost-blk-inflight:\t1\n");
}

/* The storage hangs, and an ioctl with it: pause, counters, latencies, held requests and fdinfo answer all the same. */
static void hung_storage(void)
{
	for (int memory = 0; memory < 2; memory++) {
		int fd = make_image("image", SIZE, O_RDWR | O_DIRECT);
		int dir = open(test_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		struct vm *vm = vm_open(2, FEATURES);
		int event = vm_event(vm, VHOST_BLK_EVENT_DRAINED);
		struct vhost_blk_latency latency = {};
		struct vhost_blk_stats stats;
		struct waiter waiter = { .vm = vm, .memory = memory };
		struct vhost_blk_held held;
		bool waited, early, fdinfo;
		pthread_t thread;
		int paused;
		long start;

		vm_configure(vm, SIZE, 0, 0);
		for (unsigned int q = 0; q < 2; q++)
			EQUAL(vm_backend(vm, q, fd), 0, "SET_BACKEND");
		CHECK(!ioctl(dir, FIFREEZE, 0), "FIFREEZE of %s: %s", test_dir, strerror(errno));
		start_request(vm, 0, 0, VIRTIO_BLK_T_OUT, 0, DATA, 4096);
		kick(vm, 0);
		await_inflight(vm, 0, 1);
		pthread_create(&thread, NULL, wait_for_storage, &waiter);
		usleep(100000);
		waited = !waiter.done;
		start = now_ms();
		paused = vm_pause(vm, VHOST_BLK_ALL_QUEUES, 1);
		stats = vm_stats(vm, 0);
		vm_ioctl(vm, VHOST_BLK_GET_LATENCY, &latency);
		vm_held(vm, 0, &held, 1);
		fdinfo = fdinfo_answers(vm);
		start = now_ms() - start;
		/* One event is the idle queue's. */
		event_came(event, 0);
		early = event_came(event, 300);
		CHECK(!ioctl(dir, FITHAW, 0), "FITHAW: %s", strerror(errno));

		CHECK(waited, "the ioctl did not wait for the frozen file system");
		EQUAL(paused, 0, "PAUSE");
		CHECK(start < AT_ONCE_MS, "the answers took %ld ms", start);
		EQUAL(stats.inflight, 1, "in flight");
		CHECK(fdinfo, "fdinfo does not show the request in flight");
		CHECK(!early, "the DRAINED event came while a request hung");
		CHECK(event_came(event, SOON_MS), "no DRAINED event after the thaw");
		pthread_join(thread, NULL);
		EQUAL(waiter.result, 0, "the ioctl that waited");
		must_reap(vm, 0);
		vm_close(vm);
		close(dir);
		close(fd);
	}
}

/* The disk grows and shrinks under load: requests are measured by what it was when they were fetched. */
static void resize(void)
{
	int fd = open(test_slow, O_RDWR | O_CLOEXEC | O_DIRECT);
	struct vm *vm = vm_open(1, FEATURES);

	vm_configure(vm, SIZE, 0, 0);
	EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, SIZE / 512, DATA, 4096), VIRTIO_BLK_S_IOERR, "beyond the disk");
	start_many(vm, 0);
	EQUAL(vm_configure(vm, 2 * SIZE, 0, 0), 0, "growing");
	for (int i = 0; i < IN_FLIGHT; i++)
		must_reap(vm, 0);
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, SIZE / 512, DATA, 4096), VIRTIO_BLK_S_OK, "what the disk has grown by");
	start_many(vm, 0);
	/* All are fetched when the worker has had its turn. */
	for (long start = now_ms(); vm_stats(vm, 0).inflight < IN_FLIGHT && now_ms() - start < 80;)
		usleep(1000);
	EQUAL(vm_configure(vm, 4096, 0, 0), 0, "shrinking to less than is in flight");
	for (int i = 0; i < IN_FLIGHT; i++)
		must_reap(vm, 0);
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 8, DATA, 4096), VIRTIO_BLK_S_IOERR, "beyond the shrunk disk");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 0, DATA, 4096), VIRTIO_BLK_S_OK, "what is left");
	EQUAL(vm_configure(vm, 1ULL << 40, 0, 0), ENOSPC, "more than the backend has");
}

static void no_unmap(void)
{
	int fd = make_image("image", SIZE, O_RDWR), nothing = make_image("sparse", SIZE, O_RDWR);
	struct vm *vm = vm_open(1, FEATURES | 1ULL << VIRTIO_BLK_F_DISCARD | 1ULL << VIRTIO_BLK_F_WRITE_ZEROES);
	struct virtio_blk_discard_write_zeroes range = { .num_sectors = 64 * KIB / 512 };
	static uint8_t zeroes[64 * KIB], back[64 * KIB];
	struct stat file;

	vm_configure(vm, SIZE, 0, VHOST_BLK_CONFIG_NO_UNMAP);
	EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
	pattern(guest(vm, DATA), sizeof(back), 1);
	EQUAL(request(vm, 0, VIRTIO_BLK_T_OUT, 0, DATA, sizeof(back)), VIRTIO_BLK_S_OK, "write");
	memcpy(guest(vm, DATA + MIB), &range, sizeof(range));
	EQUAL(request(vm, 0, VIRTIO_BLK_T_DISCARD, 0, DATA + MIB, sizeof(range)), VIRTIO_BLK_S_OK, "discard");
	CHECK(pread(fd, back, sizeof(back), 0) == sizeof(back), "pread");
	CHECK(!memcmp(back, guest(vm, DATA), sizeof(back)), "a discard that is to be ignored changed the file");
	range.flags = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	memcpy(guest(vm, DATA + MIB), &range, sizeof(range));
	EQUAL(request(vm, 0, VIRTIO_BLK_T_WRITE_ZEROES, 0, DATA + MIB, sizeof(range)), VIRTIO_BLK_S_OK, "write zeroes");
	CHECK(pread(fd, back, sizeof(back), 0) == sizeof(back), "pread");
	CHECK(!memcmp(back, zeroes, sizeof(back)), "write zeroes did not");
	CHECK(!fsync(fd) && !fstat(fd, &file), "fstat: %s", strerror(errno));
	CHECK(file.st_blocks * 512 >= (long)sizeof(back), "the zeroes are a hole, %ld blocks", (long)file.st_blocks);
	CHECK(!fstat(nothing, &file) && !file.st_blocks, "a control: a file of holes has %ld blocks", (long)file.st_blocks);
}

const struct test_case control_cases[] = {
	{ "pause-and-stop", pause_and_stop },
	{ "pause-waits-for-all", pause_waits_for_all },
	{ "pause-arguments", pause_arguments },
	{ "hung-storage", hung_storage },
	{ "resize", resize },
	{ "no-unmap", no_unmap },
	{},
};
