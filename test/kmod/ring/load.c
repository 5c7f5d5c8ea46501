// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A verifying load: random requests, many at once, each read compared with what was written before.
 *
 *   ring load --file FILE --state FILE [OPTIONS]
 *
 *   --direct            open it with O_DIRECT
 *   --fresh             it holds zeroes; else go on from what the state knows
 *   --size BYTES        of the disk; else all that the file has
 *   --requests N        how many; else until "stop" or SIGTERM comes
 *   --depth N           in flight on each of --queues N
 *   --largest BYTES     of one request
 *   --flush-every N     one request in N is a flush
 *   --zeroes            discards and write-zeroes, too
 *   --reads-only
 *   --writethrough      the write cache is off
 *   --aligned N         positions and lengths are multiples of N bytes
 *   --even, --odd       all buffers are aligned, or none; else some are
 *   --tolerate          answers of IOERR are no failure of the load
 *   --hold-enospc       what fails for want of room is held, until "retry"
 *   --blind             compares nothing
 *   --patience SECONDS  until an answer is overdue
 *   --skip-flush        a fault for the tests of crashes to find: no flush is sent
 *   --marks DM-NAME --checkpoints FILE
 *                       after each flush, marks the log of dm-log-writes and appends the model to that file
 *
 * On standard input: "stop"; "stats" prints VHOST_BLK_GET_STATS at once; "pause" and "resume" do as VHOST_BLK_PAUSE
 * does, "retry" as VHOST_BLK_RELEASE_HELD, and print it too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "model.h"
#include "modes.h"
#include "ring.h"

#define MOST_SEGMENTS 8
#define MOST_DEPTH 64
#define MOST_LOAD_QUEUES 4
#define LARGEST (64 * KIB)
/* Of one slot's guest memory: data at any offset in a page, then a table of descriptors. */
#define STRIDE (LARGEST + 8 * KIB)
#define TABLE (LARGEST + 4 * KIB)
/* Writes that are durable one by one are marked in groups of this many. */
#define MARK_EVERY 8

struct slot {
	bool busy;
	uint32_t type;
	uint64_t sector;
	uint32_t sectors;
	uint64_t data; /* guest address */
	uint32_t *acked; /* of a flush: what was answered when it was sent */
	double start;
};

struct load {
	const char *file, *state, *marks, *checkpoints;
	bool direct, fresh, zeroes, reads_only, writethrough, even, odd, tolerate, hold_enospc, blind, skip_flush;
	uint64_t size, requests;
	unsigned int depth, queues, flush_every, patience;
	uint32_t largest, aligned;

	struct vm *vm;
	struct model *model;
	uint8_t *busy; /* sectors under some request */
	struct slot slot[MOST_LOAD_QUEUES][MOST_DEPTH];
	uint64_t random;
	int dm, checkpoint_file;
	unsigned int inflight, mark, unmarked;
	uint64_t started, completed, reads, writes, flushes, discards, write_zeroes, errors, unsupported;
	double longest;
};

static volatile sig_atomic_t stopping;

static void stop(int signal)
{
	(void)signal;
	stopping = 1;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static uint32_t pick(struct load *load, uint32_t below)
{
	load->random ^= load->random << 13;
	load->random ^= load->random >> 7;
	load->random ^= load->random << 17;
	return (load->random >> 16) % below;
}

static uint64_t slot_memory(const struct load *load, unsigned int queue, unsigned int index)
{
	return DATA + (queue * load->depth + index) * STRIDE;
}

/* A place that no other request is at, of a multiple of the alignment; false if luck fails. */
static bool find_place(struct load *load, struct slot *slot)
{
	uint32_t unit = load->aligned / SECTOR, most = load->largest / SECTOR / unit;
	uint64_t units = load->model->sectors / unit;

	for (int attempt = 0; attempt < 8; attempt++) {
		uint32_t length = pick(load, 2) ? 1 + pick(load, most) : most < 8 ? most : 8;
		uint64_t at = pick(load, units - length + 1);
		uint64_t i;

		/* Most guests' blocks are pages. */
		if (pick(load, 4) && unit < 8 && at >= 8)
			at &= ~7ULL;
		for (i = at * unit; i < (at + length) * unit && !load->busy[i]; i++)
			;
		if (i < (at + length) * unit)
			continue;
		slot->sector = at * unit;
		slot->sectors = length * unit;
		memset(load->busy + slot->sector, 1, slot->sectors);
		return true;
	}
	return false;
}

/* Cuts the data into buffers as a guest might; returns how many. */
static unsigned int cut(struct load *load, struct slot *slot, uint64_t memory, bool writable, struct seg *segs)
{
	uint32_t left = slot->sectors * SECTOR, step = SECTOR;
	unsigned int count = 0, style = load->odd ? 7 : pick(load, load->even ? 2 : 8);

	slot->data = memory;
	if (style == 7) {
		slot->data += 1 + pick(load, 2000);
		step = 1;
	} else if (style == 6) {
		slot->data += SECTOR * pick(load, 8);
	} else if (style == 0) {
		step = PAGE;
	}
	for (uint64_t at = slot->data; left; count++) {
		uint32_t length = left;

		if (count < MOST_SEGMENTS - 1 && left > step && pick(load, 2) && style != 1)
			length = step * (1 + pick(load, (left - 1) / step));
		segs[count] = (struct seg){ at, length, writable };
		at += length;
		left -= length;
	}
	return count;
}

static void fill(struct load *load, struct slot *slot, uint32_t type)
{
	uint8_t data[LARGEST];

	for (uint32_t i = 0; i < slot->sectors; i++) {
		struct sector *sector = &load->model->sector[slot->sector + i];

		sector->issued++;
		if (type == VIRTIO_BLK_T_OUT)
			model_fill(load->model, slot->sector + i, sector->issued, data + i * SECTOR);
		else
			sector->zeroed = sector->issued;
	}
	if (type == VIRTIO_BLK_T_OUT)
		guest_write(load->vm, slot->data, data, slot->sectors * SECTOR);
}

static uint32_t pick_type(struct load *load)
{
	uint32_t random = pick(load, 100);

	if (load->reads_only)
		return VIRTIO_BLK_T_IN;
	if (load->flush_every && !pick(load, load->flush_every))
		return VIRTIO_BLK_T_FLUSH;
	if (load->zeroes && random < 4)
		return VIRTIO_BLK_T_DISCARD;
	if (load->zeroes && random < 10)
		return VIRTIO_BLK_T_WRITE_ZEROES;
	return random < 60 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
}

/* What the guest knows to be answered at this moment. */
static uint32_t *answered(struct load *load)
{
	uint32_t *acked = malloc(load->model->sectors * sizeof(*acked));

	for (uint64_t i = 0; i < load->model->sectors; i++)
		acked[i] = load->model->sector[i].acked;
	return acked;
}

static void make_durable(struct load *load, const uint32_t *acked)
{
	for (uint64_t i = 0; i < load->model->sectors; i++)
		if (load->model->sector[i].durable < acked[i])
			load->model->sector[i].durable = acked[i];
}

/*
 * Appends the model to the checkpoints, then its number to the log: whatever the log has before that mark must hold
 * what the model calls durable, and nothing that it has not issued.
 */
static void mark(struct load *load)
{
	struct {
		struct dm_ioctl dm;
		struct dm_target_msg target;
		char text[32];
	} message = { .dm = {
		.version = { DM_VERSION_MAJOR },
		.data_size = sizeof(message),
		.data_start = sizeof(struct dm_ioctl),
	} };
	size_t bytes = model_bytes(load->model->sectors);

	if (!load->marks)
		return;
	CHECK(write(load->checkpoint_file, load->model, bytes) == (ssize_t)bytes, "%s: %s", load->checkpoints,
	      strerror(errno));
	snprintf(message.dm.name, sizeof(message.dm.name), "%s", load->marks);
	snprintf((char *)&message.target.message, sizeof(message.text), "mark %u", load->mark++);
	CHECK(!ioctl(load->dm, DM_TARGET_MSG, &message), "a mark in %s: %s", load->marks, strerror(errno));
	load->unmarked = 0;
}

/* Starts a request of that slot; false if no place was free for one. */
static bool start(struct load *load, unsigned int queue, unsigned int index)
{
	struct slot *slot = &load->slot[queue][index];
	struct vm *vm = load->vm;
	struct ring *ring = &vm->ring[queue];
	uint64_t memory = slot_memory(load, queue, index), table = memory + TABLE;
	struct vring_desc *desc = guest(vm, table);
	struct seg segs[MOST_SEGMENTS + 2] = { { header_address(queue, index), 16, false } };
	uint32_t type = pick_type(load);
	unsigned int count = 1;
	uint16_t available = ring->avail->idx;
	bool ranges = type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES;

	slot->sectors = 0;
	if (type == VIRTIO_BLK_T_FLUSH) {
		slot->acked = answered(load);
		if (load->skip_flush) {
			make_durable(load, slot->acked);
			mark(load);
			free(slot->acked);
			load->started++;
			load->completed++;
			return true;
		}
	} else if (!find_place(load, slot)) {
		return false;
	}
	if (ranges) {
		struct virtio_blk_discard_write_zeroes range = {
			slot->sector, slot->sectors,
			type == VIRTIO_BLK_T_WRITE_ZEROES && pick(load, 2) ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0,
		};

		guest_write(vm, memory, &range, sizeof(range));
		segs[count++] = (struct seg){ memory, sizeof(range), false };
	} else if (slot->sectors) {
		count += cut(load, slot, memory, type == VIRTIO_BLK_T_IN, segs + 1);
	}
	if (type != VIRTIO_BLK_T_IN && slot->sectors)
		fill(load, slot, type);
	segs[count++] = (struct seg){ status_address(queue, index), 1, true };
	put_header(vm, segs[0].address, type, ranges ? 0 : slot->sector);
	*(uint8_t *)guest(vm, status_address(queue, index)) = 0xee;
	for (unsigned int i = 0; i < count; i++)
		desc[i] = (struct vring_desc){
			.addr = segs[i].address,
			.len = segs[i].length,
			.flags = (segs[i].writable ? VRING_DESC_F_WRITE : 0) | (i + 1 < count ? VRING_DESC_F_NEXT : 0),
			.next = i + 1 < count ? i + 1 : 0,
		};
	ring->desc[index] = (struct vring_desc){
		.addr = table, .len = count * sizeof(*desc), .flags = VRING_DESC_F_INDIRECT,
	};
	ring->avail->ring[available % RING_NUM] = index;
	__atomic_store_n(&ring->avail->idx, available + 1, __ATOMIC_SEQ_CST);
	slot->busy = true;
	slot->type = type;
	slot->start = now();
	load->inflight++;
	load->started++;
	return true;
}

static void compare(struct load *load, struct slot *slot)
{
	uint8_t data[LARGEST];

	guest_read(load->vm, slot->data, data, slot->sectors * SECTOR);
	for (uint32_t i = 0; i < slot->sectors; i++) {
		const struct sector *sector = &load->model->sector[slot->sector + i];
		const char *wrong =
			model_compare(load->model, slot->sector + i, data + i * SECTOR, sector->acked, sector);

		CHECK(!wrong, "a read of %u sectors from %" PRIu64 " into %#" PRIx64 ": %s", slot->sectors, slot->sector,
		      slot->data, wrong);
	}
}

static void answer(struct load *load, struct slot *slot)
{
	switch (slot->type) {
	case VIRTIO_BLK_T_IN:
		load->reads++;
		if (!load->blind)
			compare(load, slot);
		return;
	case VIRTIO_BLK_T_FLUSH:
		load->flushes++;
		make_durable(load, slot->acked);
		mark(load);
		return;
	case VIRTIO_BLK_T_DISCARD:
		load->discards++;
		return;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		load->write_zeroes++;
		break;
	default:
		load->writes++;
	}
	for (uint32_t i = 0; i < slot->sectors; i++) {
		struct sector *sector = &load->model->sector[slot->sector + i];

		sector->acked = sector->issued;
		if (load->writethrough)
			sector->durable = sector->acked;
	}
	if (load->writethrough && ++load->unmarked == MARK_EVERY)
		mark(load);
}

static void complete(struct load *load, unsigned int queue, const struct vring_used_elem *used)
{
	struct slot *slot = used->id < load->depth ? &load->slot[queue][used->id] : NULL;
	bool read = slot && slot->type == VIRTIO_BLK_T_IN;
	double took;
	int status;

	CHECK(slot && slot->busy, "queue %u answers %u, which is not in flight", queue, used->id);
	took = now() - slot->start;
	load->longest = took > load->longest ? took : load->longest;
	status = *(uint8_t *)guest(load->vm, status_address(queue, used->id));
	slot->busy = false;
	load->inflight--;
	load->completed++;
	if (status == VIRTIO_BLK_S_OK) {
		EQUAL(used->len, (read ? slot->sectors * SECTOR : 0) + 1, "used.len");
		answer(load, slot);
	} else if (status == VIRTIO_BLK_S_UNSUPP &&
		   (slot->type == VIRTIO_BLK_T_DISCARD || slot->type == VIRTIO_BLK_T_WRITE_ZEROES)) {
		load->unsupported++;
	} else {
		CHECK(status == VIRTIO_BLK_S_IOERR && load->tolerate,
		      "a request of type %u, %u sectors from %" PRIu64 ", has status %#x", slot->type, slot->sectors,
		      slot->sector, status);
		load->errors++;
	}
	memset(load->busy + slot->sector, 0, slot->sectors);
	if (slot->type == VIRTIO_BLK_T_FLUSH)
		free(slot->acked);
}

static bool reap_all(struct load *load, unsigned int queue)
{
	struct ring *ring = &load->vm->ring[queue];
	bool any = false;

	while (__atomic_load_n(&ring->used->idx, __ATOMIC_SEQ_CST) != ring->used_seen) {
		struct vring_used_elem used = ring->used->ring[ring->used_seen++ % RING_NUM];

		complete(load, queue, &used);
		any = true;
	}
	return any;
}

static void print_stats(struct load *load)
{
	struct vhost_blk_stats sum = {};

	for (unsigned int q = 0; q < load->queues; q++) {
		struct vhost_blk_stats stats = vm_stats(load->vm, q);

		sum.paused += stats.paused;
		sum.inflight += stats.inflight;
		sum.reads += stats.reads;
		sum.writes += stats.writes;
		sum.flushes += stats.flushes;
		sum.errors += stats.errors;
		sum.held += stats.held;
	}
	printf("{\"paused\":%u,\"inflight\":%llu,\"reads\":%llu,\"writes\":%llu,\"flushes\":%llu,\"errors\":%llu"
	       ",\"held\":%llu}\n",
	       sum.paused, sum.inflight, sum.reads, sum.writes, sum.flushes, sum.errors, sum.held);
	fflush(stdout);
}

static void pause_all(struct load *load, bool paused)
{
	EQUAL(vm_pause(load->vm, VHOST_BLK_ALL_QUEUES, paused), 0, "PAUSE");
	print_stats(load);
}

static void retry(struct load *load)
{
	uint32_t action = VHOST_BLK_HELD_RETRY;

	EQUAL(vm_ioctl(load->vm, VHOST_BLK_RELEASE_HELD, &action), 0, "RELEASE_HELD");
	print_stats(load);
}

/* Returns false once there is no more to come. */
static bool obey(struct load *load)
{
	char text[256];
	ssize_t n = read(STDIN_FILENO, text, sizeof(text) - 1);

	if (n <= 0)
		return false;
	text[n] = 0;
	for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (!strcmp(line, "stop"))
			stopping = 1;
		else if (!strcmp(line, "stats"))
			print_stats(load);
		else if (!strcmp(line, "pause"))
			pause_all(load, true);
		else if (!strcmp(line, "resume"))
			pause_all(load, false);
		else if (!strcmp(line, "retry"))
			retry(load);
		else
			fail("what is \"%s\"?", line);
	}
	return true;
}

static bool more(const struct load *load)
{
	return !stopping && (!load->requests || load->started < load->requests);
}

static void refill(struct load *load)
{
	for (unsigned int q = 0; q < load->queues; q++) {
		bool any = false;

		for (unsigned int i = 0; i < load->depth && more(load); i++)
			if (!load->slot[q][i].busy)
				any |= start(load, q, i);
		if (any)
			kick(load->vm, q);
	}
}

static void run(struct load *load)
{
	struct pollfd polls[MOST_LOAD_QUEUES + 1];
	double last = now();
	bool obeying = true;

	while (more(load) || load->inflight) {
		bool any = false;
		int ready;

		refill(load);
		for (unsigned int q = 0; q < load->queues; q++)
			polls[q] = (struct pollfd){ .fd = load->vm->ring[q].call, .events = POLLIN };
		polls[load->queues] = (struct pollfd){ .fd = obeying ? STDIN_FILENO : -1, .events = POLLIN };
		ready = poll(polls, load->queues + 1, load->inflight ? 1000 : 0);
		if (ready < 0)
			continue;
		for (unsigned int q = 0; q < load->queues; q++) {
			uint64_t calls;

			if (polls[q].revents && read(polls[q].fd, &calls, sizeof(calls)) == sizeof(calls))
				any |= reap_all(load, q);
			else
				CHECK(ready || !reap_all(load, q), "a used element came without a call");
		}
		if (polls[load->queues].revents)
			obeying = obey(load);
		if (any || !load->inflight)
			last = now();
		CHECK(now() - last < load->patience, "no answer within %u s, %u requests in flight", load->patience,
		      load->inflight);
	}
	if (load->marks)
		mark(load);
}

static void open_all(struct load *load)
{
	struct load *l = load;
	int fd = open(l->file, O_CLOEXEC | (l->direct ? O_DIRECT : 0) | (l->reads_only ? O_RDONLY : O_RDWR));
	uint64_t features = FEATURES | 1ULL << VIRTIO_BLK_F_DISCARD | 1ULL << VIRTIO_BLK_F_WRITE_ZEROES;
	struct stat stat;

	CHECK(fd >= 0 && !fstat(fd, &stat), "%s: %s", l->file, strerror(errno));
	if (!l->size) {
		l->size = stat.st_size;
		CHECK(!S_ISBLK(stat.st_mode) || !ioctl(fd, BLKGETSIZE64, &l->size), "%s: %s", l->file, strerror(errno));
	}
	l->model = model_open(l->state, l->fresh ? l->size / SECTOR : 0, l->random);
	CHECK(l->model->sectors == l->size / SECTOR, "%s is of a disk of %" PRIu64 " sectors", l->state,
	      l->model->sectors);
	l->busy = calloc(1, l->model->sectors);
	if (l->marks) {
		l->dm = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
		CHECK(l->dm >= 0, "/dev/mapper/control: %s", strerror(errno));
		l->checkpoint_file = open(l->checkpoints, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		CHECK(l->checkpoint_file >= 0, "%s: %s", l->checkpoints, strerror(errno));
	}
	l->vm = vm_open(l->queues, features);
	EQUAL(vm_configure(l->vm, l->size, 0,
			   (l->writethrough ? VHOST_BLK_CONFIG_WRITETHROUGH : 0) |
				   (l->reads_only ? VHOST_BLK_CONFIG_READ_ONLY : 0) |
				   (l->hold_enospc ? VHOST_BLK_CONFIG_HOLD_ENOSPC : 0)),
	      0, "SET_CONFIG");
	for (unsigned int q = 0; q < l->queues; q++)
		EQUAL(vm_backend(l->vm, q, fd), 0, "SET_BACKEND");
	close(fd);
}

static void parse(struct load *load, int argc, char **argv)
{
	enum { FILE_NAME = 1, DIRECT, STATE, FRESH, SIZE, REQUESTS, DEPTH, QUEUES, BIGGEST, FLUSH_EVERY, ZEROES, READS,
	       THROUGH, ALIGNED, EVEN, ODD, TOLERATE, HOLD, BLIND, PATIENCE, SKIP, MARKS, CHECKPOINTS, SEED };
	static const struct option options[] = {
		{ "file", 1, NULL, FILE_NAME },
		{ "direct", 0, NULL, DIRECT },
		{ "state", 1, NULL, STATE },
		{ "fresh", 0, NULL, FRESH },
		{ "size", 1, NULL, SIZE },
		{ "requests", 1, NULL, REQUESTS },
		{ "depth", 1, NULL, DEPTH },
		{ "queues", 1, NULL, QUEUES },
		{ "largest", 1, NULL, BIGGEST },
		{ "flush-every", 1, NULL, FLUSH_EVERY },
		{ "zeroes", 0, NULL, ZEROES },
		{ "reads-only", 0, NULL, READS },
		{ "writethrough", 0, NULL, THROUGH },
		{ "aligned", 1, NULL, ALIGNED },
		{ "even", 0, NULL, EVEN },
		{ "odd", 0, NULL, ODD },
		{ "tolerate", 0, NULL, TOLERATE },
		{ "hold-enospc", 0, NULL, HOLD },
		{ "blind", 0, NULL, BLIND },
		{ "patience", 1, NULL, PATIENCE },
		{ "skip-flush", 0, NULL, SKIP },
		{ "marks", 1, NULL, MARKS },
		{ "checkpoints", 1, NULL, CHECKPOINTS },
		{ "seed", 1, NULL, SEED },
		{},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		unsigned long long number = optarg ? strtoull(optarg, NULL, 0) : 0;

		switch (option) {
		case FILE_NAME: load->file = optarg; break;
		case DIRECT: load->direct = true; break;
		case STATE: load->state = optarg; break;
		case FRESH: load->fresh = true; break;
		case SIZE: load->size = number; break;
		case REQUESTS: load->requests = number; break;
		case DEPTH: load->depth = number; break;
		case QUEUES: load->queues = number; break;
		case BIGGEST: load->largest = number; break;
		case FLUSH_EVERY: load->flush_every = number; break;
		case ZEROES: load->zeroes = true; break;
		case READS: load->reads_only = true; break;
		case THROUGH: load->writethrough = true; break;
		case ALIGNED: load->aligned = number; break;
		case EVEN: load->even = true; break;
		case ODD: load->odd = true; break;
		case TOLERATE: load->tolerate = true; break;
		case HOLD: load->hold_enospc = true; break;
		case BLIND: load->blind = true; break;
		case PATIENCE: load->patience = number; break;
		case SKIP: load->skip_flush = true; break;
		case MARKS: load->marks = optarg; break;
		case CHECKPOINTS: load->checkpoints = optarg; break;
		case SEED: load->random ^= number << 20; break;
		default: exit(2);
		}
	}
	CHECK(load->file && load->state && !load->marks == !load->checkpoints, "usage: see load.c");
	CHECK(load->depth >= 1 && load->depth <= MOST_DEPTH && load->queues >= 1 && load->queues <= MOST_LOAD_QUEUES &&
	      load->aligned >= SECTOR && load->aligned % SECTOR == 0 && load->largest >= load->aligned &&
	      load->largest <= LARGEST, "an option is out of range");
}

int load_mode(int argc, char **argv)
{
	static struct load load = {
		.depth = 16, .queues = 1, .largest = LARGEST, .flush_every = 40, .patience = 20, .aligned = SECTOR,
		.random = 0x2545f4914f6cdd1dULL,
	};

	double elapsed;

	parse(&load, argc, argv);
	signal(SIGTERM, stop);
	open_all(&load);
	elapsed = now();
	run(&load);
	elapsed = now() - elapsed;
	for (unsigned int q = 0; q < load.queues; q++)
		EQUAL(vm_backend(load.vm, q, -1), 0, "stopping");
	printf("{\"completed\":%" PRIu64 ",\"reads\":%" PRIu64 ",\"writes\":%" PRIu64 ",\"flushes\":%" PRIu64
	       ",\"discards\":%" PRIu64 ",\"writeZeroes\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"unsupported\":%" PRIu64
	       ",\"longestMs\":%.0f,\"elapsedMs\":%.0f}\n",
	       load.completed, load.reads, load.writes, load.flushes, load.discards, load.write_zeroes, load.errors,
	       load.unsupported, load.longest * 1000, elapsed * 1000);
	return 0;
}
