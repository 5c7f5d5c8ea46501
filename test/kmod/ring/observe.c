// SPDX-License-Identifier: GPL-2.0-or-later
/* What can be seen from outside: latencies, debugfs, tracepoints. */
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE (4 * MIB)

static struct vhost_blk_latency latency_of(struct vm *vm, unsigned int queue, uint32_t type)
{
	struct vhost_blk_latency latency = { .queue = queue, .type = type };

	must_ioctl(vm, VHOST_BLK_GET_LATENCY, &latency);
	return latency;
}

/* By the formula in the header. */
static uint64_t lower_bound(unsigned int bucket)
{
	return bucket ? (4ULL + (bucket - 1) % 4) << (8 + (bucket - 1) / 4) : 0;
}

static void latency(void)
{
	enum { COUNT = 20 };
	int fd = open(test_slow, O_RDWR | O_CLOEXEC | O_DIRECT);
	struct vm *vm = vm_open(2, FEATURES);
	struct vhost_blk_latency reads, others;
	uint64_t count = 0, least = 0, most = 0;

	vm_configure(vm, SIZE, 0, 0);
	EQUAL(vm_backend(vm, 1, fd), 0, "SET_BACKEND");
	for (int i = 0; i < COUNT; i++)
		start_request(vm, 1, i, VIRTIO_BLK_T_IN, i * 8, DATA + i * PAGE, PAGE);
	kick(vm, 1);
	for (int i = 0; i < COUNT; i++)
		must_reap(vm, 1);
	request(vm, 1, VIRTIO_BLK_T_GET_ID, 0, DATA, 20);
	reads = latency_of(vm, 1, VHOST_BLK_LATENCY_READ);
	for (unsigned int i = 0; i < VHOST_BLK_LATENCY_BUCKETS; i++) {
		uint64_t up_to = i + 1 < VHOST_BLK_LATENCY_BUCKETS ? lower_bound(i + 1) : ~0ULL;

		CHECK(!reads.buckets[i] || up_to > SLOW_MS * 1000000ULL, "%llu reads took from %llu to %llu ns on a slow device",
		      (unsigned long long)reads.buckets[i], (unsigned long long)lower_bound(i), (unsigned long long)up_to);
		count += reads.buckets[i];
		least += reads.buckets[i] * lower_bound(i);
		most += reads.buckets[i] * (up_to / 4);
	}
	EQUAL(count, COUNT, "reads in the buckets");
	CHECK(reads.sum_ns >= least && reads.sum_ns / 4 <= most, "a sum of %llu ns outside of the buckets, %llu to %llu",
	      (unsigned long long)reads.sum_ns, (unsigned long long)least, (unsigned long long)most * 4);
	others = latency_of(vm, 1, VHOST_BLK_LATENCY_OTHER);
	for (unsigned int i = count = 0; i < VHOST_BLK_LATENCY_BUCKETS; i++)
		count += others.buckets[i];
	EQUAL(count, 1, "others in the buckets");
	EQUAL(latency_of(vm, 1, VHOST_BLK_LATENCY_WRITE).sum_ns, 0, "time of writes that never were");
	EQUAL(latency_of(vm, 0, VHOST_BLK_LATENCY_READ).sum_ns, 0, "time of another queue's reads");
	reads.type = VHOST_BLK_LATENCY_TYPES;
	EQUAL(vm_ioctl(vm, VHOST_BLK_GET_LATENCY, &reads), EINVAL, "an unknown type");
	reads.type = 0;
	reads.queue = 2;
	EQUAL(vm_ioctl(vm, VHOST_BLK_GET_LATENCY, &reads), ENOBUFS, "a queue that is not there");
}

/* The whole of a file, terminated; empty if it is not there. */
static char *contents(const char *path)
{
	static char text[256 * 1024];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t n;

	while (fd >= 0 && length < sizeof(text) - 1 && (n = read(fd, text + length, sizeof(text) - 1 - length)) > 0)
		length += n;
	text[length] = 0;
	close(fd);
	return text;
}

static void debugfs(void)
{
	struct vm *vm = vm_open(3, FEATURES);
	char pattern_text[128], path[256];
	struct stat file;
	const char *text;
	glob_t found;

	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	vm_configure(vm, SIZE, 0, 0);
	EQUAL(vm_backend(vm, 2, make_image("image", SIZE, O_RDWR)), 0, "SET_BACKEND");
	EQUAL(request(vm, 2, VIRTIO_BLK_T_OUT, 0, DATA, 8192), VIRTIO_BLK_S_OK, "write");
	EQUAL(request(vm, 2, VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK, "flush");
	snprintf(pattern_text, sizeof(pattern_text), "/sys/kernel/debug/vhost-blk/%d-*/queue*", getpid());
	EQUAL(glob(pattern_text, 0, NULL, &found), 0, "looking in debugfs");
	EQUAL(found.gl_pathc, 3, "files for three queues");
	snprintf(path, sizeof(path), "%s", found.gl_pathv[2]);
	CHECK(!stat(path, &file) && (file.st_mode & 0777) == 0400, "%s has mode %o", path, file.st_mode & 0777);
	text = contents(path);
	for (const char *const *want = (const char *const[]){ "running:\t1\n", "writes:\t1\n", "write-bytes:\t8192\n",
							       "flushes:\t1\n", "held:\t0\n", "write-latency-from-", NULL };
	     *want; want++)
		CHECK(strstr(text, *want), "%s lacks \"%s\":\n%s", path, *want, text);
	vm_close(vm);
	CHECK(stat(path, &file) < 0 && errno == ENOENT, "%s outlives its descriptor", path);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s: %s", path, strerror(errno));
	close(fd);
}

static void tracepoints(void)
{
	static const char dir[] = "/sys/kernel/tracing";
	static const char events[] = "/sys/kernel/tracing/events/vhost_blk/enable";
	struct vm *vm = vm_open(1, FEATURES);
	const char *text;

	mount("tracefs", dir, "tracefs", 0, NULL);
	vm_configure(vm, SIZE, 0, 0);
	EQUAL(vm_backend(vm, 0, make_image("image", SIZE, O_RDWR)), 0, "SET_BACKEND");
	write_file("/sys/kernel/tracing/trace", "");
	write_file(events, "1");
	EQUAL(request(vm, 0, VIRTIO_BLK_T_OUT, 24, DATA, 4096), VIRTIO_BLK_S_OK, "write");
	vm_pause(vm, 0, 1);
	EQUAL(vm_backend(vm, 0, -1), 0, "stopping");
	write_file(events, "0");
	text = contents("/sys/kernel/tracing/trace");
	/* A buffered write is punted. */
	for (const char *const *want = (const char *const[]){ "vhost_blk_start: id=", "type=1 sector=24", "vhost_blk_punt: id=",
							       "vhost_blk_done: id=", "status=0 error=0 transferred=4096 ns=",
							       "vhost_blk_pause: id=", NULL };
	     *want; want++)
		CHECK(strstr(text, *want), "the trace lacks \"%s\":\n%.700s", *want, text);
}

const struct test_case observe_cases[] = {
	{ "latency", latency },
	{ "debugfs", debugfs },
	{ "tracepoints", tracepoints },
	{},
};
