/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A load that verifies itself, for a block device in a guest.
 *
 *   vload DEVICE [-s SECONDS] [-t THREADS] [-b BLOCK] [-f EVERY] [-o OFFSET] [-p PAUSE]
 *
 * Each thread owns a stripe of the device, from byte OFFSET to its end, and keeps, in memory, the generation that each of its
 * blocks must hold. It writes and reads random blocks with O_DIRECT; a block's content follows from its number and generation
 * alone, so a lost, doubled, torn or misplaced write shows at the next read of it. Every EVERY writes it flushes (fdatasync;
 * 0: never).
 *
 * PAUSE is what each thread waits after a request, in microseconds: a load that leaves an emulated processor time for others.
 *
 * Runs for SECONDS (0: until SIGTERM or SIGINT), then reads every block that it wrote once more. The last line on stdout is
 * "vload: ok writes=N reads=N flushes=N errors=0" (exit 0), or says what was found instead (exit 1).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static const char *device;
static unsigned seconds, threads = 4, flush_every = 64, pause_us;
static size_t block_size = 4096;
static off_t start, device_size;
static uint64_t run_seed;

static volatile sig_atomic_t stop;
static atomic_ullong writes, reads, flushes, errors;

struct worker {
	pthread_t thread;
	uint64_t random;
	uint64_t first, count; /* its stripe, in blocks */
	uint32_t *generation;  /* 0: not written yet */
};

static uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *state = x;
}

static void fill(uint64_t *data, uint64_t block, uint32_t generation)
{
	uint64_t state = run_seed ^ (block * 0x9e3779b97f4a7c15ull) ^ ((uint64_t)generation << 32 | 1);

	data[0] = block;
	data[1] = generation;
	for (size_t i = 2; i < block_size / sizeof(*data); i++)
		data[i] = next_random(&state);
}

static void complain(uint64_t block, uint32_t generation, const uint64_t *data, const char *what)
{
	if (atomic_fetch_add(&errors, 1) < 10)
		printf("vload: block %llu generation %u: %s (found block %llu generation %llu)\n",
		       (unsigned long long)block, generation, what, (unsigned long long)data[0],
		       (unsigned long long)data[1]);
}

static void check(int fd, uint64_t block, uint32_t generation, uint64_t *data, uint64_t *want)
{
	ssize_t n = pread(fd, data, block_size, block * block_size);

	if (n != (ssize_t)block_size) {
		complain(block, generation, data, n < 0 ? strerror(errno) : "short read");
		return;
	}
	fill(want, block, generation);
	if (memcmp(data, want, block_size))
		complain(block, generation, data, "wrong content");
	atomic_fetch_add(&reads, 1);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	int fd = open(device, O_RDWR | O_DIRECT | O_CLOEXEC);
	uint64_t *data, *want, since_flush = 0;

	if (fd < 0 || posix_memalign((void **)&data, 4096, block_size) || posix_memalign((void **)&want, 4096, block_size)) {
		perror(device);
		atomic_fetch_add(&errors, 1);
		return NULL;
	}
	while (!stop) {
		uint64_t i = next_random(&w->random) % w->count, block = w->first + i;

		if (pause_us)
			usleep(pause_us);
		if (w->generation[i] && next_random(&w->random) % 3 == 0) {
			check(fd, block, w->generation[i], data, want);
			continue;
		}
		fill(data, block, ++w->generation[i]);
		ssize_t n = pwrite(fd, data, block_size, block * block_size);

		if (n != (ssize_t)block_size)
			complain(block, w->generation[i], data, n < 0 ? strerror(errno) : "short write");
		atomic_fetch_add(&writes, 1);
		if (flush_every && ++since_flush >= flush_every) {
			if (fdatasync(fd) < 0)
				complain(block, w->generation[i], data, strerror(errno));
			atomic_fetch_add(&flushes, 1);
			since_flush = 0;
		}
	}
	for (uint64_t i = 0; i < w->count; i++)
		if (w->generation[i])
			check(fd, w->first + i, w->generation[i], data, want);
	if (fdatasync(fd) < 0) {
		perror("fdatasync");
		atomic_fetch_add(&errors, 1);
	}
	close(fd);
	return NULL;
}

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

int main(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "s:t:b:f:o:p:")) != -1)
		switch (option) {
		case 's': seconds = atoi(optarg); break;
		case 't': threads = atoi(optarg); break;
		case 'b': block_size = atoi(optarg); break;
		case 'f': flush_every = atoi(optarg); break;
		case 'o': start = atoll(optarg); break;
		case 'p': pause_us = atoi(optarg); break;
		default: return 2;
		}
	if (optind != argc - 1 || threads < 1 || threads > 64 || block_size < 512 || block_size % 512 ||
	    start < 0 || start % block_size) {
		fprintf(stderr, "usage: vload DEVICE [-s SECONDS] [-t THREADS] [-b BLOCK] [-f EVERY] [-o OFFSET] [-p PAUSE]\n");
		return 2;
	}
	device = argv[optind];

	int fd = open(device, O_RDONLY | O_CLOEXEC);

	device_size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	if (device_size - start < (off_t)(threads * block_size)) {
		fprintf(stderr, "vload: %s: %s\n", device, device_size < 0 ? strerror(errno) : "too small");
		return 2;
	}
	close(fd);
	if (getrandom(&run_seed, sizeof(run_seed), 0) != sizeof(run_seed))
		return 2;
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	setvbuf(stdout, NULL, _IOLBF, 0);

	struct worker *workers = calloc(threads, sizeof(*workers));
	uint64_t stripe = (device_size - start) / block_size / threads;

	for (unsigned i = 0; i < threads; i++) {
		struct worker *w = &workers[i];

		*w = (struct worker){ .random = run_seed + i + 1, .first = start / block_size + i * stripe, .count = stripe };
		w->generation = calloc(stripe, sizeof(*w->generation));
		if (!w->generation || pthread_create(&w->thread, NULL, work, w))
			return 2;
	}
	printf("vload: running\n");
	for (time_t end = time(NULL) + seconds; !stop && (!seconds || time(NULL) < end);)
		usleep(50000);
	stop = 1;
	for (unsigned i = 0; i < threads; i++)
		pthread_join(workers[i].thread, NULL);
	printf("vload: %s writes=%llu reads=%llu flushes=%llu errors=%llu\n", errors ? "FAILED" : "ok", writes, reads, flushes,
	       errors);
	return errors ? 1 : 0;
}
