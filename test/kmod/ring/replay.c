// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The log of dm-log-writes (the kernel's Documentation/admin-guide/device-mapper/log-writes.rst): each write that the
 * device completed, in an order in which it may have reached stable storage.
 *
 *   ring replay --log DEVICE --checkpoints FILE      a raw disk: checks it after every entry that is in the log
 *   ring replay --log DEVICE --list                  one line an entry: number, flags, mark
 *   ring replay --log DEVICE --apply FILE --from N --to N
 *                                                    writes entries N to N-1 to a file: the device as it was then
 *
 * The first is for a load (load.c) with nothing between it and the logged device.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model.h"
#include "modes.h"
#include "ring.h"

#define LOG_MAGIC 0x6a736677736872ULL
#define LOG_VERSION 1
enum { FLUSH = 1, FUA = 2, DISCARD = 4, MARK = 8 };

/* Both little-endian, each at the start of a block of its own. */
struct log_super {
	uint64_t magic, version, entries;
	uint32_t block_size;
};

struct log_entry {
	uint64_t block, blocks, flags, data_length;
};

struct log {
	int fd;
	uint64_t entries;
	uint32_t block_size;
	/* The entry read last: its number, and where its data and the next entry are. */
	uint64_t index, at;
	struct log_entry entry;
	uint8_t *data; /* of a write, or the text of a mark */
};

static void read_at(int fd, uint64_t at, void *data, size_t length)
{
	ssize_t n = pread(fd, data, length, at);

	CHECK(n == (ssize_t)length, "the log at %" PRIu64 ": %s", at, n < 0 ? strerror(errno) : "it is short");
}

static void log_open(struct log *log, const char *path)
{
	struct log_super super;

	*log = (struct log){ .fd = open(path, O_RDONLY | O_CLOEXEC) };
	CHECK(log->fd >= 0, "%s: %s", path, strerror(errno));
	read_at(log->fd, 0, &super, sizeof(super));
	CHECK(le64toh(super.magic) == LOG_MAGIC && le64toh(super.version) == LOG_VERSION, "%s holds no log", path);
	log->entries = le64toh(super.entries);
	log->block_size = le32toh(super.block_size);
	log->at = log->block_size;
}

/* Reads the next entry with its data; false at the end. */
static bool log_next(struct log *log)
{
	struct log_entry raw;
	size_t length;

	if (log->index == log->entries)
		return false;
	read_at(log->fd, log->at, &raw, sizeof(raw));
	log->entry = (struct log_entry){ le64toh(raw.block), le64toh(raw.blocks), le64toh(raw.flags),
					 le64toh(raw.data_length) };
	free(log->data);
	if (log->entry.flags & MARK) {
		length = log->entry.data_length;
		CHECK(length <= log->block_size - sizeof(raw), "a mark of %zu bytes", length);
		log->data = calloc(1, length + 1);
		read_at(log->fd, log->at + sizeof(raw), log->data, length);
		length = 0;
	} else {
		length = log->entry.flags & DISCARD ? 0 : log->entry.blocks * log->block_size;
		log->data = malloc(length + 1);
		read_at(log->fd, log->at + log->block_size, log->data, length);
	}
	log->at += log->block_size + length;
	log->index++;
	return true;
}

/* Discarded blocks read as anything; zeroes differ most from what was there. */
static void apply(const struct log *log, uint8_t *disk, uint64_t size)
{
	uint64_t at = log->entry.block * log->block_size, length = log->entry.blocks * log->block_size;

	if (log->entry.flags & MARK || !length)
		return;
	CHECK(at <= size && length <= size - at, "entry %" PRIu64 " is beyond the disk", log->index - 1);
	if (log->entry.flags & DISCARD)
		memset(disk + at, 0, length);
	else
		memcpy(disk + at, log->data, length);
}

static void list(struct log *log)
{
	while (log_next(log))
		printf("%" PRIu64 " %" PRIu64 " %s\n", log->index - 1, log->entry.flags,
		       log->entry.flags & MARK ? (const char *)log->data : "-");
}

static void apply_range(struct log *log, const char *path, uint64_t from, uint64_t to)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct stat stat;
	uint8_t *disk;

	CHECK(fd >= 0 && !fstat(fd, &stat), "%s: %s", path, strerror(errno));
	disk = mmap(NULL, stat.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(disk != MAP_FAILED, "%s: %s", path, strerror(errno));
	while (log->index < to && log_next(log))
		if (log->index > from)
			apply(log, disk, stat.st_size);
	printf("{\"applied\":%" PRIu64 "}\n", log->index - from);
}

static unsigned long long compare_disk(const uint8_t *disk, uint64_t first, uint64_t end, uint64_t entry,
				       const struct model *low, const struct model *high)
{
	for (uint64_t i = first; i < end; i++) {
		const char *wrong =
			model_compare(low, i, disk + i * SECTOR, low->sector[i].durable, &high->sector[i]);

		CHECK(!wrong, "after entry %" PRIu64 " of the log: %s", entry, wrong);
	}
	return end - first;
}

/* How many models there are in that file. */
static unsigned long model_count(const char *path, uint64_t sectors)
{
	struct stat found;

	CHECK(!stat(path, &found), "%s: %s", path, strerror(errno));
	return found.st_size / model_bytes(sectors);
}

/*
 * Each entry may be the last before a crash. The sectors it changes are compared then; all of them at each mark, where
 * the demand rises.
 */
static void check_raw(struct log *log, const char *checkpoints)
{
	const uint8_t *first = (const uint8_t *)model_open(checkpoints, 0, 0);
	const struct model *model = (const struct model *)first;
	uint64_t sectors = model->sectors, compared = 0, durable = 0;
	unsigned long last = model_count(checkpoints, sectors) - 1;
	unsigned long marks = 0, flushes = 0, fuas = 0;
	struct model *low = calloc(1, model_bytes(sectors));
	uint8_t *disk = calloc(sectors, SECTOR);

	low->seed = model->seed;
	while (log_next(log)) {
		const struct model *high = (const struct model *)(first + (marks < last ? marks : last) * model_bytes(sectors));
		uint64_t begin = log->entry.block * log->block_size / SECTOR;
		uint64_t count = log->entry.blocks * log->block_size / SECTOR;

		apply(log, disk, sectors * SECTOR);
		flushes += !!(log->entry.flags & FLUSH);
		fuas += !!(log->entry.flags & FUA);
		if (!(log->entry.flags & MARK)) {
			compared += compare_disk(disk, begin, begin + count, log->index - 1, low, high);
			continue;
		}
		/* The target's own last words. */
		if (!strcmp((const char *)log->data, "dm-log-writes-end"))
			continue;
		EQUAL(strtoul((const char *)log->data, NULL, 10), marks, "the number of a mark");
		memcpy(low, high, model_bytes(sectors));
		compared += compare_disk(disk, 0, sectors, log->index - 1, low, high);
		marks++;
	}
	for (uint64_t i = 0; i < sectors; i++)
		durable += low->sector[i].durable > 0;
	printf("{\"entries\":%" PRIu64 ",\"marks\":%lu,\"flushes\":%lu,\"fuas\":%lu,\"compared\":%" PRIu64
	       ",\"durable\":%" PRIu64 "}\n",
	       log->entries, marks, flushes, fuas, compared, durable);
}

int replay_mode(int argc, char **argv)
{
	static const struct option options[] = {
		{ "log", 1, NULL, 'l' },  { "checkpoints", 1, NULL, 'c' }, { "list", 0, NULL, 'L' },
		{ "apply", 1, NULL, 'a' }, { "from", 1, NULL, 'f' },	    { "to", 1, NULL, 't' },
		{},
	};
	const char *path = NULL, *checkpoints = NULL, *target = NULL;
	uint64_t from = 0, to = 0;
	bool listing = false;
	struct log log;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'l': path = optarg; break;
		case 'c': checkpoints = optarg; break;
		case 'L': listing = true; break;
		case 'a': target = optarg; break;
		case 'f': from = strtoull(optarg, NULL, 0); break;
		case 't': to = strtoull(optarg, NULL, 0); break;
		default: return 2;
		}
	}
	CHECK(path && listing + !!checkpoints + !!target == 1, "usage: see replay.c");
	log_open(&log, path);
	if (listing)
		list(&log);
	else if (target)
		apply_range(&log, target, from, to);
	else
		check_raw(&log, checkpoints);
	return 0;
}
