// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ring.h"

#define MAGIC 0x6c65646f6d676e72ULL
#define WORDS (SECTOR / sizeof(uint64_t))

size_t model_bytes(uint64_t sectors)
{
	return sizeof(struct model) + sectors * sizeof(struct sector);
}

struct model *model_open(const char *path, uint64_t sectors, uint64_t seed)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | (sectors ? O_CREAT | O_TRUNC : 0), 0600);
	struct model *model;
	struct stat stat;

	CHECK(fd >= 0, "%s: %s", path, strerror(errno));
	CHECK(!sectors || !ftruncate(fd, model_bytes(sectors)), "%s: %s", path, strerror(errno));
	CHECK(!fstat(fd, &stat), "%s: %s", path, strerror(errno));
	model = mmap(NULL, stat.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(model != MAP_FAILED, "%s: %s", path, strerror(errno));
	close(fd);
	if (sectors) {
		model->magic = MAGIC;
		model->sectors = sectors;
		model->seed = seed;
	}
	CHECK(model->magic == MAGIC && model_bytes(model->sectors) <= (size_t)stat.st_size, "%s is no model", path);
	return model;
}

void model_fill(const struct model *model, uint64_t sector, uint32_t generation, uint8_t *data)
{
	uint64_t words[WORDS];
	uint64_t step = (sector << 32 ^ generation ^ model->seed * 0x9e3779b97f4a7c15ULL) | 1;

	words[0] = sector;
	words[1] = generation;
	for (size_t i = 2; i < WORDS; i++)
		words[i] = words[i - 1] * 6364136223846793005ULL + step;
	memcpy(data, words, SECTOR);
}

const char *model_compare(const struct model *model, uint64_t sector, const uint8_t *data, uint32_t low,
			  const struct sector *high)
{
	static const uint8_t zeroes[SECTOR];
	static char text[256];
	uint8_t want[SECTOR];
	uint64_t words[2];

	if (!memcmp(data, zeroes, SECTOR)) {
		if (!low || high->zeroed >= low)
			return NULL;
		snprintf(text, sizeof(text), "sector %llu is zeroes, want a write of %u to %u", (unsigned long long)sector,
			 low, high->issued);
		return text;
	}
	memcpy(words, data, sizeof(words));
	if (words[1] >= 1 && words[1] >= low && words[1] <= high->issued) {
		model_fill(model, sector, words[1], want);
		if (!memcmp(data, want, SECTOR))
			return NULL;
	}
	snprintf(text, sizeof(text), "sector %llu holds sector %#llx of write %#llx, want a write of %u to %u%s",
		 (unsigned long long)sector, (unsigned long long)words[0], (unsigned long long)words[1], low,
		 high->issued, words[0] == sector && words[1] <= high->issued ? ", whole" : "");
	return text;
}
