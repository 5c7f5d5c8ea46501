// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A load for /dev/vhost-blk: a guest and its VMM in one process, as lean as it can be, so that what is measured is the
 * module. One virtqueue of 256 with indirect descriptors and EVENT_IDX, as a Linux guest's; 4 KiB random requests, each
 * slot with a buffer of its own. Each answer's status and length is checked.
 *
 *   ringload run  --file FILE --type read|write [--depth N] [--count N] [--warm N] [--poll-us N]
 *   ringload own  [--depth N] [--count N]         the same loop without a device: what the load itself costs
 *   ringload idle --file FILE --disks N           keeps that many disks bound and idle until its input ends
 *
 * run and own print one JSON line: {"requests","ns","batches","kicks"}; idle prints "ready".
 */
#define _GNU_SOURCE
#include "../ring/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define NUM 256
#define BLOCK (4 * KIB)
#define SECTORS_PER_BLOCK (BLOCK / 512)

/* ring.c names them; nothing here does. */
const char *test_dir, *test_block, *test_slow;

static struct {
	const char *file, *type;
	unsigned int depth, disks, poll_us;
	uint64_t count, warm;
} options = { .type = "read", .depth = 1, .disks = 1, .count = 100000, .warm = 1000 };

/* What the device reads and writes of one slot beside its data; a cache line apart from the next. */
struct slot {
	struct virtio_blk_outhdr header;
	struct vring_desc table[3];
} __attribute__((aligned(64)));

#define SLOTS (GUEST_BASE + 2 * MIB)
#define STATUS(slot) (GUEST_BASE + 3 * MIB + (slot) * 64)
#define BUFFER(slot) (DATA + (slot) * BLOCK)

struct load {
	struct vm *vm;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t *used_event; /* ours: from which used index on we want a call */
	uint16_t *avail_event; /* the device's: from which avail index on it wants a kick */
	struct slot *slots;
	uint8_t *status; /* 64 bytes apart */
	int kick, call;
	bool loop; /* no device: kicks answer themselves */
	uint32_t answer_length;
	uint64_t blocks, random;
	uint16_t added, published, seen;
	uint64_t batches, kicks;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static inline uint64_t random_block(struct load *load)
{
	load->random ^= load->random << 13;
	load->random ^= load->random >> 7;
	load->random ^= load->random << 17;
	/* The high half of a product: a division would cost more. */
	return (unsigned __int128)load->random * load->blocks >> 64;
}

/* The tables are laid out once: of a request only its sector changes. */
static void lay_out(struct load *load, uint32_t type)
{
	for (unsigned int i = 0; i < NUM; i++) {
		struct slot *slot = &load->slots[i];
		uint64_t address = SLOTS + i * sizeof(*slot);
		bool reads = type == VIRTIO_BLK_T_IN;

		slot->header = (struct virtio_blk_outhdr){ .type = type };
		slot->table[0] = (struct vring_desc){ address, sizeof(slot->header), VRING_DESC_F_NEXT, 1 };
		slot->table[1] = (struct vring_desc){
			BUFFER(i), BLOCK, VRING_DESC_F_NEXT | (reads ? VRING_DESC_F_WRITE : 0), 2,
		};
		slot->table[2] = (struct vring_desc){ STATUS(i), 1, VRING_DESC_F_WRITE, 0 };
		load->desc[i] = (struct vring_desc){
			.addr = address + offsetof(struct slot, table),
			.len = sizeof(slot->table),
			.flags = VRING_DESC_F_INDIRECT,
		};
		memset(guest(load->vm, BUFFER(i)), i, BLOCK);
	}
	load->answer_length = type == VIRTIO_BLK_T_IN ? BLOCK + 1 : 1;
}

static inline void add(struct load *load, unsigned int slot)
{
	load->slots[slot].header.sector = random_block(load) * SECTORS_PER_BLOCK;
	load->status[slot * 64] = 0xff;
	load->avail->ring[load->added++ % NUM] = slot;
}

/* The device's part of a kick, when there is none: all that was added is answered. */
static void answer_all(struct load *load)
{
	uint16_t index = load->used->idx;

	for (; index != load->published; index++) {
		uint32_t head = load->avail->ring[index % NUM];

		load->used->ring[index % NUM] = (struct vring_used_elem){ head, load->answer_length };
		load->status[head * 64] = VIRTIO_BLK_S_OK;
	}
	__atomic_store_n(&load->used->idx, index, __ATOMIC_RELEASE);
}

static void publish(struct load *load)
{
	uint16_t old = load->published;
	uint64_t one = 1;

	load->published = load->added;
	__atomic_store_n(&load->avail->idx, load->added, __ATOMIC_SEQ_CST);
	load->batches++;
	if (load->loop)
		answer_all(load);
	else if (!vring_need_event(__atomic_load_n(load->avail_event, __ATOMIC_RELAXED), load->added, old))
		return;
	load->kicks++;
	CHECK(write(load->kick, &one, sizeof(one)) == sizeof(one), "kick: %s", strerror(errno));
}

static void wait_for_used(struct load *load)
{
	uint64_t calls;

	if (__atomic_load_n(&load->used->idx, __ATOMIC_ACQUIRE) != load->seen && !load->loop)
		return;
	for (;;) {
		__atomic_store_n(load->used_event, load->seen, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&load->used->idx, __ATOMIC_SEQ_CST) != load->seen && !load->loop)
			return;
		CHECK(read(load->call, &calls, sizeof(calls)) == sizeof(calls), "call: %s", strerror(errno));
		if (__atomic_load_n(&load->used->idx, __ATOMIC_ACQUIRE) != load->seen)
			return;
	}
}

/* Takes what is answered, adds as many again while requests are wanted. Returns how many were answered. */
static unsigned int reap_and_add(struct load *load, uint64_t wanted)
{
	uint16_t end = __atomic_load_n(&load->used->idx, __ATOMIC_ACQUIRE);
	unsigned int count = 0;

	for (; load->seen != end; load->seen++, count++) {
		struct vring_used_elem used = load->used->ring[load->seen % NUM];

		if (used.id >= NUM || used.len != load->answer_length || load->status[used.id * 64] != VIRTIO_BLK_S_OK)
			fail("request %u: status %u, length %u", used.id, load->status[used.id % NUM * 64], used.len);
		if (count < wanted)
			add(load, used.id);
	}
	return count;
}

static void go(struct load *load, uint64_t count)
{
	uint64_t added = 0, answered = 0;

	for (; added < options.depth && added < count; added++)
		add(load, added);
	publish(load);
	while (answered < count) {
		unsigned int n;

		wait_for_used(load);
		n = reap_and_add(load, count - added);
		answered += n;
		if (added == count)
			continue;
		added += n < count - added ? n : count - added;
		publish(load);
	}
}

/* A VM of one queue of NUM, as vm_open() but for the ring's size and the blocking call. */
static struct vm *open_vm(void)
{
	struct vm *vm = vm_open(1, FEATURES | 1ULL << VIRTIO_RING_F_EVENT_IDX);
	struct vhost_vring_state size = { .num = NUM };

	must_ioctl(vm, VHOST_SET_VRING_NUM, &size);
	fcntl(vm->ring[0].call, F_SETFL, 0);
	return vm;
}

static uint64_t bind_file(struct vm *vm)
{
	int fd = open(options.file, O_RDWR | O_DIRECT | O_CLOEXEC);
	off_t size;
	int error;

	CHECK(fd >= 0, "%s: %s", options.file, strerror(errno));
	size = lseek(fd, 0, SEEK_END);
	CHECK(size >= (off_t)BLOCK, "%s: too small", options.file);
	CHECK(!(error = vm_configure(vm, size, 0, 0)), "SET_CONFIG: %s", strerror(error));
	CHECK(!(error = vm_backend(vm, 0, fd)), "SET_BACKEND: %s", strerror(error));
	close(fd);
	return size;
}

static void attach(struct load *load)
{
	struct ring *ring = &load->vm->ring[0];

	load->desc = ring->desc;
	load->avail = ring->avail;
	load->used = ring->used;
	load->used_event = &ring->avail->ring[NUM];
	load->avail_event = (uint16_t *)&ring->used->ring[NUM];
	load->slots = guest(load->vm, SLOTS);
	load->status = guest(load->vm, STATUS(0));
	load->kick = ring->kick;
	load->call = ring->call;
	load->random = 88172645463325252ULL;
}

static void report(struct load *load, uint64_t ns)
{
	printf("{\"requests\":%llu,\"ns\":%llu,\"batches\":%llu,\"kicks\":%llu}\n", (unsigned long long)options.count,
	       (unsigned long long)ns, (unsigned long long)load->batches, (unsigned long long)load->kicks);
}

static void measure(struct load *load)
{
	uint64_t start;

	if (options.warm)
		go(load, options.warm);
	load->batches = load->kicks = 0;
	start = now_ns();
	go(load, options.count);
	report(load, now_ns() - start);
}

static void run(void)
{
	struct load load = { .vm = open_vm() };
	struct vhost_vring_state poll_time = { .num = options.poll_us };

	attach(&load);
	lay_out(&load, !strcmp(options.type, "write") ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN);
	if (options.poll_us)
		must_ioctl(load.vm, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &poll_time);
	load.blocks = bind_file(load.vm) / BLOCK;
	measure(&load);
	CHECK(!vm_backend(load.vm, 0, -1), "stop");
	vm_close(load.vm);
}

/* Kick and call are one eventfd: a batch still costs one write and one read of it. */
static void run_own(void)
{
	struct load load = { .vm = open_vm(), .loop = true, .blocks = 1 << 22 };

	attach(&load);
	load.call = load.kick = eventfd(0, EFD_CLOEXEC);
	lay_out(&load, VIRTIO_BLK_T_IN);
	measure(&load);
}

static void idle(void)
{
	struct rlimit files = { 65536, 65536 };
	char byte;

	setrlimit(RLIMIT_NOFILE, &files);
	for (unsigned int i = 0; i < options.disks; i++)
		bind_file(open_vm());
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
}

static uint64_t number(const char *text, uint64_t least, uint64_t most)
{
	char *end;
	uint64_t n = strtoull(text, &end, 10);

	if (*end || end == text || n < least || n > most) {
		fprintf(stderr, "ringload: '%s' is not a number from %llu to %llu\n", text, (unsigned long long)least,
			(unsigned long long)most);
		exit(2);
	}
	return n;
}

static void usage(void)
{
	fprintf(stderr, "usage: ringload run|own|idle [--file FILE] [--type read|write] [--depth N] [--count N] "
			"[--warm N] [--poll-us N] [--disks N]\n");
	exit(2);
}

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{ "file", required_argument, NULL, 'f' },
		{ "type", required_argument, NULL, 't' },
		{ "depth", required_argument, NULL, 'd' },
		{ "count", required_argument, NULL, 'c' },
		{ "warm", required_argument, NULL, 'w' },
		{ "poll-us", required_argument, NULL, 'p' },
		{ "disks", required_argument, NULL, 'n' },
		{},
	};
	const char *verb = argc > 1 ? argv[1] : "";
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 'f':
			options.file = optarg;
			break;
		case 't':
			options.type = optarg;
			break;
		case 'd':
			options.depth = number(optarg, 1, NUM);
			break;
		case 'c':
			options.count = number(optarg, 1, UINT64_MAX);
			break;
		case 'w':
			options.warm = number(optarg, 0, UINT64_MAX);
			break;
		case 'p':
			options.poll_us = number(optarg, 0, 1000000);
			break;
		case 'n':
			options.disks = number(optarg, 1, 4096);
			break;
		default:
			usage();
		}
	}
	if (strcmp(options.type, "read") && strcmp(options.type, "write"))
		usage();
	if (!strcmp(verb, "own"))
		run_own();
	else if (!strcmp(verb, "run") && options.file)
		run();
	else if (!strcmp(verb, "idle") && options.file)
		idle();
	else
		usage();
	return 0;
}
