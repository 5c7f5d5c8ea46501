// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What is in a file, against the model of a load: as another process sees it.
 *
 *   ring check --file FILE --state FILE [--direct] [--durable]
 *   ring check --file FILE --checkpoints FILE --low N --high N
 *
 * The first: after a load, at least what was answered (--durable: what was made durable). The second: after a crash
 * between two checkpoints, at least what the one calls durable, and nothing that the other has not issued.
 */
#define _GNU_SOURCE
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

#define CHUNK (256 * KIB)

/* Pairs of models: what must be there, what may be there. */
static void check_file(const char *path, int flags, const struct model *low, const struct model *high, bool durable)
{
	uint64_t size = low->sectors * SECTOR;
	uint8_t *data = aligned_alloc(PAGE, CHUNK);
	uint64_t written = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | flags);

	CHECK(fd >= 0, "%s: %s", path, strerror(errno));
	for (uint64_t at = 0; at < size; at += CHUNK) {
		size_t length = size - at < CHUNK ? size - at : CHUNK;
		ssize_t got = pread(fd, data, length, at);

		CHECK(got == (ssize_t)length, "%s at %" PRIu64 ": %s", path, at, got < 0 ? strerror(errno) : "it is short");
		for (size_t i = 0; i < length / SECTOR; i++) {
			uint64_t sector = at / SECTOR + i;
			uint32_t least = durable ? low->sector[sector].durable : low->sector[sector].acked;
			const char *wrong = model_compare(low, sector, data + i * SECTOR, least, &high->sector[sector]);

			CHECK(!wrong, "%s: %s", path, wrong);
			written += least > 0;
		}
	}
	printf("{\"sectors\":%" PRIu64 ",\"written\":%" PRIu64 "}\n", low->sectors, written);
	close(fd);
	free(data);
}

int check_mode(int argc, char **argv)
{
	static const struct option options[] = {
		{ "file", 1, NULL, 'f' },	 { "state", 1, NULL, 's' }, { "direct", 0, NULL, 'd' },
		{ "durable", 0, NULL, 'D' },	 { "low", 1, NULL, 'l' },   { "high", 1, NULL, 'h' },
		{ "checkpoints", 1, NULL, 'c' }, {},
	};
	const char *file = NULL, *state = NULL, *checkpoints = NULL;
	unsigned long low = 0, high = 0;
	bool durable = false;
	const uint8_t *first;
	struct model *model;
	int option, flags = 0;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'f': file = optarg; break;
		case 's': state = optarg; break;
		case 'd': flags |= O_DIRECT; break;
		case 'D': durable = true; break;
		case 'l': low = strtoul(optarg, NULL, 0); break;
		case 'h': high = strtoul(optarg, NULL, 0); break;
		case 'c': checkpoints = optarg; break;
		default: return 2;
		}
	}
	CHECK(file && !state != !checkpoints, "usage: see check.c");
	model = model_open(state ? state : checkpoints, 0, 0);
	first = (const uint8_t *)model;
	if (checkpoints)
		check_file(file, flags, (const struct model *)(first + low * model_bytes(model->sectors)),
			   (const struct model *)(first + high * model_bytes(model->sectors)), true);
	else
		check_file(file, flags, model, model, durable);
	return 0;
}
