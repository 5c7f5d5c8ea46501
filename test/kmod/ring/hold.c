// SPDX-License-Identifier: GPL-2.0-or-later
/* Error policy: what the storage failed is held, the descriptor freezes, and the VMM decides. */
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (4 * MIB)
#define BAD_SECTOR 8
#define QUIET_MS 200

/* As the suite has made it: null_blk lets the sectors of a block device be bad. */
static const char bad_blocks[] = "/sys/kernel/config/nullb/ring-cached/badblocks";

static void set_bad_sectors(bool bad)
{
	int fd = open(bad_blocks, O_WRONLY | O_CLOEXEC);
	char text[32];

	CHECK(fd >= 0, "%s: %s", bad_blocks, strerror(errno));
	snprintf(text, sizeof(text), "%c%d-%d", bad ? '+' : '-', BAD_SECTOR, BAD_SECTOR + 7);
	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s: %s", bad_blocks, strerror(errno));
	close(fd);
}

/* Opens the backend, whatever a case that failed has left. */
static int good_backend(const struct backend *backend)
{
	set_bad_sectors(false);
	return backend_open(backend, SIZE);
}

/* Makes BAD_SECTOR of the backend fail, or work again. A file is cut off there: then reads of it fail. */
static void set_bad(const struct backend *backend, int fd, bool bad)
{
	if (backend->block)
		set_bad_sectors(bad);
	else
		CHECK(!ftruncate(fd, bad ? BAD_SECTOR * 512 : SIZE), "ftruncate: %s", strerror(errno));
}

static struct vm *holding_vm(unsigned int queues, int fd, uint32_t policy)
{
	struct vm *vm = vm_open(queues, FEATURES | 1ULL << VIRTIO_BLK_F_DISCARD);

	EQUAL(vm_configure(vm, SIZE, 0, policy), 0, "SET_CONFIG");
	for (unsigned int q = 0; q < queues; q++)
		EQUAL(vm_backend(vm, q, fd), 0, "SET_BACKEND");
	return vm;
}

static int release(struct vm *vm, uint32_t action)
{
	return vm_ioctl(vm, VHOST_BLK_RELEASE_HELD, &action);
}

static unsigned int status_of(struct vm *vm, unsigned int queue, unsigned int slot)
{
	return *(uint8_t *)guest(vm, status_address(queue, slot));
}

static void nothing_comes(struct vm *vm, unsigned int queue, const char *what)
{
	struct vring_used_elem used;

	CHECK(!reap(vm, queue, &used, QUIET_MS), "%s was answered", what);
}

/* A read of BAD_SECTOR, which must be held. Returns its head. */
static unsigned int fail_read(struct vm *vm, unsigned int queue, unsigned int slot, int event)
{
	unsigned int head = start_request(vm, queue, slot, VIRTIO_BLK_T_IN, BAD_SECTOR, DATA + slot * PAGE, 4096);

	kick(vm, queue);
	CHECK(event_came(event, SOON_MS), "no HELD event for request %u; status %#x", slot, status_of(vm, queue, slot));
	return head;
}

/* Held, listed, frozen on every queue; then retried with success. */
static void hold_retry(void)
{
	for (int b = 0; b < 4; b++) {
		const struct backend *backend = &backends[b];
		int fd = good_backend(backend);
		struct vm *vm = holding_vm(2, fd, VHOST_BLK_CONFIG_HOLD_READ);
		int event = vm_event(vm, VHOST_BLK_EVENT_HELD);
		struct vhost_blk_held held[4] = {};
		struct vhost_blk_stats stats;
		unsigned int head;

		set_bad(backend, fd, true);
		memset(guest(vm, DATA), 0x55, PAGE);
		head = fail_read(vm, 0, 0, event);
		nothing_comes(vm, 0, "a held request");
		EQUAL(status_of(vm, 0, 0), 0xee, "the status byte of a held request");
		EQUAL(vm_held(vm, 0, held, 4), 1, "held requests");
		EQUAL(held[0].head, head, "the held request's head");
		EQUAL(held[0].type, VIRTIO_BLK_T_IN, "the held request's type");
		EQUAL(held[0].error, EIO, "the held request's error");
		EQUAL(vm_held(vm, 1, held, 4), 0, "held requests of the other queue");
		stats = vm_stats(vm, 0);
		EQUAL(stats.held, 1, "held");
		EQUAL(stats.inflight, 1, "in flight");
		EQUAL(stats.frozen, 1, "frozen");
		EQUAL(stats.reads, 0, "answered reads");
		EQUAL(vm_stats(vm, 1).frozen, 1, "the other queue is frozen");

		for (unsigned int q = 0; q < 2; q++) {
			start_request(vm, q, 1, VIRTIO_BLK_T_IN, 0, DATA + (q + 1) * PAGE, 4096);
			kick(vm, q);
			nothing_comes(vm, q, "a request on a frozen queue");
		}
		set_bad(backend, fd, false);
		EQUAL(release(vm, VHOST_BLK_HELD_RETRY), 0, "RELEASE_HELD");
		for (int i = 0; i < 3; i++)
			must_reap(vm, i / 2);
		for (int i = 0; i < 3; i++)
			EQUAL(status_of(vm, i / 2, i ? 1 : 0), VIRTIO_BLK_S_OK, backend->name);
		EQUAL(*(uint8_t *)guest(vm, DATA), 0, "data of the retried read");
		stats = vm_stats(vm, 0);
		EQUAL(stats.held + stats.inflight + stats.frozen, 0, "held, in flight and frozen afterwards");
		EQUAL(stats.reads, 2, "reads");
		EQUAL(stats.errors, 0, "errors");
		vm_close(vm);
		close(fd);
	}
}

/* Retried in vain, then failed. Several are listed in the order in which they failed. */
static void hold_fail(void)
{
	int fd = good_backend(&backends[3]);
	struct vm *vm = holding_vm(1, fd, VHOST_BLK_CONFIG_HOLD_READ | VHOST_BLK_CONFIG_HOLD_WRITE);
	int event = vm_event(vm, VHOST_BLK_EVENT_HELD);
	struct vhost_blk_held held[4] = {};
	unsigned int heads[3];

	set_bad_sectors(true);
	/* Fetched at one go: the first to fail keeps back what comes later. */
	EQUAL(vm_pause(vm, 0, 1), 0, "PAUSE");
	for (unsigned int i = 0; i < 3; i++)
		heads[i] = start_request(vm, 0, i, i == 1 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, BAD_SECTOR, DATA + i * PAGE,
					 4096);
	EQUAL(vm_pause(vm, 0, 0), 0, "PAUSE off");
	for (int round = 0; round < 2; round++) {
		CHECK(event_came(event, SOON_MS), "no HELD event in round %d", round);
		await_held(vm, 0, 3);
		EQUAL(vm_held(vm, 0, held, 2), 3, "held requests with room for two");
		EQUAL(held[2].type, 0, "the entry behind the room");
		EQUAL(vm_held(vm, 0, held, 4), 3, "held requests");
		/* They may fail in another order than they were made available in. */
		for (unsigned int i = 0; i < 3 && !round; i++) {
			CHECK(held[0].head == heads[i] || held[1].head == heads[i] || held[2].head == heads[i],
			      "head %u is not among the held", heads[i]);
			EQUAL(held[i].error, EIO, "error");
		}
		event_came(event, 0);
		if (!round)
			EQUAL(release(vm, VHOST_BLK_HELD_RETRY), 0, "RELEASE_HELD");
	}
	EQUAL(release(vm, 2), EINVAL, "an unknown action");
	EQUAL(release(vm, VHOST_BLK_HELD_FAIL), 0, "RELEASE_HELD");
	for (int i = 0; i < 3; i++)
		must_reap(vm, 0);
	for (int i = 0; i < 3; i++)
		EQUAL(status_of(vm, 0, i), VIRTIO_BLK_S_IOERR, "status");
	EQUAL(vm_stats(vm, 0).errors, 3, "errors");
	EQUAL(vm_held(vm, 0, held, 4), 0, "held requests afterwards");
	set_bad_sectors(false);
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 0, DATA, 4096), VIRTIO_BLK_S_OK, "a read afterwards");
	EQUAL(release(vm, VHOST_BLK_HELD_RETRY), 0, "RELEASE_HELD of nothing");
}

/* What each policy holds, and what none does. */
static void hold_policy(void)
{
	const uint32_t all = VHOST_BLK_CONFIG_HOLD_READ | VHOST_BLK_CONFIG_HOLD_WRITE | VHOST_BLK_CONFIG_HOLD_ENOSPC;
	int fd = good_backend(&backends[3]);
	struct vm *vm = holding_vm(1, fd, all);
	struct virtio_blk_discard_write_zeroes beyond = { .sector = SIZE / 512, .num_sectors = 8 };

	/* The guest's own faults. */
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, SIZE / 512, DATA, 4096), VIRTIO_BLK_S_IOERR, "a read beyond the disk");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_OUT, 0, DATA, 100), VIRTIO_BLK_S_IOERR, "a write of odd bytes");
	memcpy(guest(vm, DATA), &beyond, sizeof(beyond));
	EQUAL(request(vm, 0, VIRTIO_BLK_T_DISCARD, 0, DATA, sizeof(beyond)), VIRTIO_BLK_S_IOERR, "a discard beyond the disk");
	EQUAL(request(vm, 0, 77, 0, 0, 0), VIRTIO_BLK_S_UNSUPP, "an unknown type");
	EQUAL(vm_configure(vm, SIZE, 0, all | VHOST_BLK_CONFIG_READ_ONLY), 0, "SET_CONFIG");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_OUT, 0, DATA, 4096), VIRTIO_BLK_S_IOERR, "a write to a read-only disk");
	EQUAL(vm_stats(vm, 0).held, 0, "held");

	set_bad_sectors(true);
	EQUAL(vm_configure(vm, SIZE, 0, 0), 0, "SET_CONFIG");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, BAD_SECTOR, DATA, 4096), VIRTIO_BLK_S_IOERR, "a bad read without a policy");
	EQUAL(vm_configure(vm, SIZE, 0, VHOST_BLK_CONFIG_HOLD_WRITE), 0, "SET_CONFIG");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, BAD_SECTOR, DATA, 4096), VIRTIO_BLK_S_IOERR, "a bad read, writes are held");
	EQUAL(vm_configure(vm, SIZE, 0, VHOST_BLK_CONFIG_HOLD_READ), 0, "SET_CONFIG");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_OUT, BAD_SECTOR, DATA, 4096), VIRTIO_BLK_S_IOERR, "a bad write, reads are held");
	EQUAL(vm_configure(vm, SIZE, 0, VHOST_BLK_CONFIG_HOLD_ENOSPC), 0, "SET_CONFIG");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_OUT, BAD_SECTOR, DATA, 4096), VIRTIO_BLK_S_IOERR, "EIO, ENOSPC is held");
	set_bad_sectors(false);
}

/* A sparse file on a full file system: held until there is room, then written; nothing is lost. */
static void hold_enospc(void)
{
	for (int direct = 0; direct < 2; direct++) {
		int fd = make_image("image", SIZE, O_RDWR | (direct ? O_DIRECT : 0));
		int filler = make_image("filler", 0, O_RDWR);
		struct vm *vm = holding_vm(1, fd, VHOST_BLK_CONFIG_HOLD_ENOSPC);
		int event = vm_event(vm, VHOST_BLK_EVENT_HELD);
		static uint8_t data[64 * KIB], back[64 * KIB];
		struct vhost_blk_held held;
		char path[4096];
		size_t room = sizeof(data);

		while (room >= 512) {
			ssize_t n = write(filler, data, room);

			if (n <= 0)
				room /= 2;
		}
		fsync(filler);
		pattern(guest(vm, DATA), sizeof(data), direct);
		start_request(vm, 0, 0, VIRTIO_BLK_T_OUT, 0, DATA, sizeof(data));
		kick(vm, 0);
		/* Its blocks are freed when the last descriptor goes, however this case ends. */
		snprintf(path, sizeof(path), "%s/filler", test_dir);
		CHECK(!unlink(path), "%s: %s", path, strerror(errno));
		CHECK(event_came(event, SOON_MS), "no HELD event for a write to a full file system, status %#x",
		      status_of(vm, 0, 0));
		EQUAL(vm_held(vm, 0, &held, 1), 1, "held requests");
		EQUAL(held.error, ENOSPC, "error");
		EQUAL(held.type, VIRTIO_BLK_T_OUT, "type");
		close(filler);
		sync();
		EQUAL(release(vm, VHOST_BLK_HELD_RETRY), 0, "RELEASE_HELD");
		must_reap(vm, 0);
		EQUAL(status_of(vm, 0, 0), VIRTIO_BLK_S_OK, "the write once there is room");
		CHECK(pread(open_image("image", O_RDONLY), back, sizeof(back), 0) == sizeof(back), "reading back");
		CHECK(!memcmp(back, guest(vm, DATA), sizeof(back)), "the retried write is not what is in the file");
		vm_close(vm);
		close(fd);
	}
}

/* Changes that would pull memory, log or file from under a held request are refused; afterwards they are not. */
static void hold_busy(void)
{
	int fd = good_backend(&backends[3]), other = make_image("other", SIZE, O_RDWR);
	struct vm *vm = holding_vm(2, fd, VHOST_BLK_CONFIG_HOLD_READ);
	int event = vm_event(vm, VHOST_BLK_EVENT_HELD);
	struct vhost_memory table = {};
	uint64_t features;

	set_bad_sectors(true);
	fail_read(vm, 0, 0, event);
	EQUAL(vm_ioctl(vm, VHOST_SET_MEM_TABLE, &table), EBUSY, "SET_MEM_TABLE");
	vm->log = calloc(1, GUEST_END / PAGE / 8 + 8);
	features = (uintptr_t)vm->log;
	must_ioctl(vm, VHOST_SET_LOG_BASE, &features);
	features = vm->features | 1ULL << VHOST_F_LOG_ALL;
	EQUAL(vm_ioctl(vm, VHOST_SET_FEATURES, &features), EBUSY, "turning on the log");
	EQUAL(vm_backend(vm, 0, other), EBUSY, "another file");
	EQUAL(vm_backend(vm, 1, other), 0, "another file for the queue that holds nothing");
	set_bad_sectors(false);
	EQUAL(release(vm, VHOST_BLK_HELD_RETRY), 0, "RELEASE_HELD");
	must_reap(vm, 0);
	EQUAL(status_of(vm, 0, 0), VIRTIO_BLK_S_OK, "status");
	vm_set_memory(vm);
	vm_set_features(vm, features);
	EQUAL(vm_backend(vm, 0, other), 0, "another file");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 0, DATA, 4096), VIRTIO_BLK_S_OK, "a read afterwards");
}

/* A stop leaves what is held to the VMM, which finds it in the ring and may hand it in again. */
static void hold_stop(void)
{
	int fd = good_backend(&backends[3]);
	struct vm *vm = holding_vm(2, fd, VHOST_BLK_CONFIG_HOLD_READ);
	int event = vm_event(vm, VHOST_BLK_EVENT_HELD);
	struct vhost_blk_held held[2] = {};
	unsigned int head;

	EQUAL(request(vm, 0, VIRTIO_BLK_T_IN, 0, DATA, 4096), VIRTIO_BLK_S_OK, "a good read");
	set_bad_sectors(true);
	head = fail_read(vm, 0, 1, event);
	start_request(vm, 0, 2, VIRTIO_BLK_T_IN, 0, DATA + 2 * PAGE, 4096);
	start_request(vm, 1, 2, VIRTIO_BLK_T_IN, 0, DATA + 3 * PAGE, 4096);
	kick(vm, 0);
	kick(vm, 1);
	nothing_comes(vm, 1, "a request on a frozen queue");
	EQUAL(vm_backend(vm, 0, -1), 0, "stopping");
	EQUAL(vm_base(vm, 0), 2, "the next index: the good read and the held one were taken");
	EQUAL(vm->ring[0].used->idx, 1, "used index");
	EQUAL(vm_held(vm, 0, held, 2), 1, "held requests after the stop");
	EQUAL(held[0].head, head, "head");
	/* The other queue was frozen for its sake only. */
	must_reap(vm, 1);
	EQUAL(vm_stats(vm, 1).frozen, 0, "frozen");
	EQUAL(release(vm, VHOST_BLK_HELD_RETRY), 0, "RELEASE_HELD of what is the VMM's");
	EQUAL(vm_held(vm, 0, held, 2), 1, "held requests after a release that has none");
	vm_set_memory(vm);
	set_bad_sectors(false);

	EQUAL(vm_backend(vm, 0, fd), 0, "SET_BACKEND");
	EQUAL(vm_held(vm, 0, held, 2), 0, "held requests after a start");
	must_reap(vm, 0);
	EQUAL(status_of(vm, 0, 2), VIRTIO_BLK_S_OK, "the request that the freeze had kept back");
	EQUAL(status_of(vm, 0, 1), 0xee, "the status byte of what the VMM has to answer");
	EQUAL(vm_backend(vm, 0, -1), 0, "stopping");
}

/* A read that failed has perhaps written its buffers: a migration must take them though no answer was given. */
static void hold_log(void)
{
	int fd = good_backend(&backends[3]);
	struct vm *vm = holding_vm(1, fd, VHOST_BLK_CONFIG_HOLD_READ);
	int event = vm_event(vm, VHOST_BLK_EVENT_HELD);

	vm_log_start(vm);
	set_bad_sectors(true);
	fail_read(vm, 0, 3, event);
	CHECK(vm_logged(vm, DATA + 3 * PAGE), "the page of a held read is not marked");
	memset(vm->log, 0, GUEST_END / PAGE / 8 + 8);
	set_bad_sectors(false);
	EQUAL(release(vm, VHOST_BLK_HELD_RETRY), 0, "RELEASE_HELD");
	must_reap(vm, 0);
	CHECK(vm_logged(vm, DATA + 3 * PAGE), "the page of a read that was retried is not marked");
}

/* Held requests end with their owner, whether it closes the descriptor, gives it up or is killed. */
static void hold_and_die(void)
{
	int fd = good_backend(&backends[3]);

	set_bad_sectors(true);
	for (int round = 0; round < 12; round++) {
		pid_t child = fork();
		int status;

		if (!child) {
			struct vm *vm = holding_vm(2, fd, VHOST_BLK_CONFIG_HOLD_READ);
			int event = vm_event(vm, VHOST_BLK_EVENT_HELD);
			struct vhost_blk_held held;

			fail_read(vm, round % 2, 0, event);
			if (round % 3 == 0)
				kill(getpid(), SIGKILL);
			if (round % 3 == 1) {
				must_ioctl(vm, VHOST_RESET_OWNER, NULL);
				EQUAL(vm_held(vm, round % 2, &held, 1), 0, "held requests without an owner");
				EQUAL(vm_stats(vm, 0).frozen, 0, "frozen without an owner");
			}
			vm_close(vm);
			_exit(0);
		}
		CHECK(waitpid(child, &status, 0) == child, "waitpid: %s", strerror(errno));
		if (round % 3)
			CHECK(WIFEXITED(status) && !WEXITSTATUS(status), "round %d: status %#x", round, status);
	}
	set_bad_sectors(false);
}

const struct test_case hold_cases[] = {
	{ "hold-retry", hold_retry },
	{ "hold-fail", hold_fail },
	{ "hold-policy", hold_policy },
	{ "hold-enospc", hold_enospc },
	{ "hold-busy", hold_busy },
	{ "hold-stop", hold_stop },
	{ "hold-log", hold_log },
	{ "hold-and-die", hold_and_die },
	{},
};
