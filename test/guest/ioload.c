/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A load that measures, for a block device in a guest.
 *
 *   ioload DEVICE read|write DEPTH JOBS COUNT [PAUSE]
 *
 * Each of JOBS threads keeps DEPTH requests of 4 KiB at random places in flight, by an io_uring of its own with O_DIRECT, until it
 * has made COUNT of them: it reaps what has ended, makes as many anew, and waits in the same system call. With a PAUSE it rests for
 * so many microseconds before it makes new ones. Prints
 * {"requests":N,"ns":N}: all requests, and the time from the first to the last. Nothing is verified: vload does that.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096u
#define MAX_DEPTH 256u
#define MAX_JOBS 64u

static int device;
static uint64_t blocks;
static uint8_t opcode;
static unsigned depth;
static uint64_t count;
static useconds_t pause_us;
static pthread_barrier_t ready;

struct ring {
	int fd;
	unsigned *sq_tail, *sq_mask, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

__attribute__((noreturn)) static void die(const char *what, int error)
{
	fprintf(stderr, "ioload: %s: %s\n", what, strerror(error));
	exit(1);
}

static unsigned *field(char *base, uint32_t offset)
{
	return (unsigned *)(base + offset);
}

static void open_ring(struct ring *ring)
{
	struct io_uring_params params = {};
	char *base;
	size_t size, cq_size;

	ring->fd = syscall(SYS_io_uring_setup, depth, &params);
	if (ring->fd < 0)
		die("io_uring_setup", errno);
	if (!(params.features & IORING_FEAT_SINGLE_MMAP))
		die("io_uring", ENOSYS);
	size = params.sq_off.array + params.sq_entries * sizeof(unsigned);
	cq_size = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
	base = mmap(NULL, size > cq_size ? size : cq_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd,
		    IORING_OFF_SQ_RING);
	if (base == MAP_FAILED)
		die("mmap", errno);
	ring->sqes = mmap(NULL, params.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQES);
	if (ring->sqes == MAP_FAILED)
		die("mmap", errno);
	ring->sq_tail = field(base, params.sq_off.tail);
	ring->sq_mask = field(base, params.sq_off.ring_mask);
	ring->cq_head = field(base, params.cq_off.head);
	ring->cq_tail = field(base, params.cq_off.tail);
	ring->cq_mask = field(base, params.cq_off.ring_mask);
	ring->cqes = (void *)(base + params.cq_off.cqes);
	/* Each place of the queue is always of the same entry. */
	for (unsigned i = 0; i < params.sq_entries; i++)
		field(base, params.sq_off.array)[i] = i;
}

static uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *state = x;
}

static void put(struct ring *ring, uint64_t *random, char *buffer)
{
	unsigned tail = *ring->sq_tail;

	ring->sqes[tail & *ring->sq_mask] = (struct io_uring_sqe){
		.opcode = opcode,
		.fd = device,
		.addr = (uintptr_t)buffer,
		.len = BLOCK,
		.off = next_random(random) % blocks * BLOCK,
		.user_data = (uintptr_t)buffer,
	};
	__atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_RELEASE);
}

static void *run_job(void *arg)
{
	uint64_t random = 0x9e3779b97f4a7c15ull * ((uintptr_t)arg + 1), made = 0, ended = 0;
	struct ring ring;
	char *buffers = aligned_alloc(BLOCK, (size_t)depth * BLOCK);
	unsigned to_submit = 0;

	if (!buffers)
		die("buffers", ENOMEM);
	memset(buffers, 0x5a, (size_t)depth * BLOCK);
	open_ring(&ring);
	pthread_barrier_wait(&ready);
	for (; made < depth && made < count; made++, to_submit++)
		put(&ring, &random, buffers + made * BLOCK);
	while (ended < count) {
		unsigned head = *ring.cq_head, tail;
		int submitted = syscall(SYS_io_uring_enter, ring.fd, to_submit, 1, IORING_ENTER_GETEVENTS, NULL, 0);

		if (submitted < 0 && errno != EINTR)
			die("io_uring_enter", errno);
		to_submit -= submitted > 0 ? submitted : 0;
		for (tail = __atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE); head != tail; head++, ended++) {
			const struct io_uring_cqe *cqe = &ring.cqes[head & *ring.cq_mask];

			if (cqe->res != (int)BLOCK)
				die("a request", cqe->res < 0 ? -cqe->res : EIO);
			if (made < count) {
				put(&ring, &random, (char *)(uintptr_t)cqe->user_data);
				made++;
				to_submit++;
			}
		}
		__atomic_store_n(ring.cq_head, head, __ATOMIC_RELEASE);
		if (pause_us)
			usleep(pause_us);
	}
	return NULL;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static uint64_t number(const char *text, uint64_t most)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || *end || !value || value > most) {
		fprintf(stderr, "ioload: %s is no number from 1 to %llu\n", text, (unsigned long long)most);
		exit(2);
	}
	return value;
}

int main(int argc, char **argv)
{
	pthread_t threads[MAX_JOBS];
	unsigned jobs;
	uint64_t start, bytes;
	bool writes;

	if (argc < 6 || argc > 7 || (strcmp(argv[2], "read") && strcmp(argv[2], "write"))) {
		fprintf(stderr, "usage: ioload DEVICE read|write DEPTH JOBS COUNT [PAUSE]\n");
		return 2;
	}
	writes = !strcmp(argv[2], "write");
	opcode = writes ? IORING_OP_WRITE : IORING_OP_READ;
	depth = number(argv[3], MAX_DEPTH);
	jobs = number(argv[4], MAX_JOBS);
	count = number(argv[5], UINT32_MAX);
	if (argc == 7)
		pause_us = number(argv[6], 1000000);
	device = open(argv[1], (writes ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
	if (device < 0 || ioctl(device, BLKGETSIZE64, &bytes))
		die(argv[1], errno);
	blocks = bytes / BLOCK;
	if (!blocks)
		die(argv[1], ENOSPC);
	pthread_barrier_init(&ready, NULL, jobs + 1);
	for (unsigned i = 0; i < jobs; i++) {
		int error = pthread_create(&threads[i], NULL, run_job, (void *)(uintptr_t)i);

		if (error)
			die("a thread", error);
	}
	pthread_barrier_wait(&ready);
	start = now_ns();
	for (unsigned i = 0; i < jobs; i++)
		pthread_join(threads[i], NULL);
	printf("{\"requests\":%llu,\"ns\":%llu}\n", (unsigned long long)(count * jobs),
	       (unsigned long long)(now_ns() - start));
	return 0;
}
