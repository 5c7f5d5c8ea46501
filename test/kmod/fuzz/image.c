// SPDX-License-Identifier: GPL-2.0-or-later
/* The images behind the disks, and what their sectors must hold. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t word(uint64_t sector, uint32_t version, unsigned int i)
{
	return version ? (sector << 32 | version) * 0x9e3779b97f4a7c15ULL + i * 0xd1342543de82ef95ULL : 0;
}

void put_sector(uint8_t *data, uint64_t sector, uint32_t version)
{
	for (unsigned int i = 0; i < SECTOR / 8; i++) {
		uint64_t value = word(sector, version, i);

		memcpy(data + i * 8, &value, 8);
	}
}

bool is_sector(const uint8_t *data, uint64_t sector, uint32_t version)
{
	if (version == NONE)
		return false;
	for (unsigned int i = 0; i < SECTOR / 8; i++) {
		uint64_t value = word(sector, version, i);

		if (memcmp(data + i * 8, &value, 8))
			return false;
	}
	return true;
}

int image_open(const struct image *image, int flags)
{
	int fd = open(image->path, flags | O_CLOEXEC);

	CHECK(fd >= 0, "%s: %s", image->path, strerror(errno));
	return fd;
}

static void image_write(struct image *image, const uint8_t *data)
{
	int fd = open(image->path, O_RDWR | O_CLOEXEC | (image->block ? 0 : O_CREAT | O_TRUNC), 0600);

	CHECK(fd >= 0 && pwrite(fd, data, IMAGE_SIZE, 0) == (ssize_t)IMAGE_SIZE && !fsync(fd), "%s: %s", image->path,
	      strerror(errno));
	close(fd);
}

/* Its size may not have changed either. */
static uint8_t *image_read(const struct image *image)
{
	uint8_t *data = malloc(IMAGE_SIZE);
	int fd = image_open(image, O_RDONLY);
	off_t end = lseek(fd, 0, SEEK_END);

	CHECK(image->block || end == (off_t)IMAGE_SIZE, "%s has now %lld bytes", image->path, (long long)end);
	CHECK(pread(fd, data, IMAGE_SIZE, 0) == (ssize_t)IMAGE_SIZE, "%s: %s", image->path, strerror(errno));
	close(fd);
	return data;
}

/* The guards hold a pattern of their own, like the rest. */
void image_init(struct image *image, bool tame)
{
	uint8_t *data = malloc(IMAGE_SIZE);

	if (tame)
		image->shadow = mmap(NULL, IMAGE_SECTORS * sizeof(*image->shadow), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (uint64_t i = 0; i < IMAGE_SECTORS; i++) {
		put_sector(data + i * SECTOR, i, 1);
		if (tame)
			image->shadow[i] = (struct sector){ .now = 1, .other = 1, .pending = NONE };
	}
	image_write(image, data);
	free(data);
}

void image_remember(struct image *image)
{
	free(image->before);
	image->before = image_read(image);
}

static uint32_t found(const uint8_t *data, uint64_t i, const struct sector *sector)
{
	if (is_sector(data, i, sector->now))
		return sector->now;
	if (is_sector(data, i, sector->other))
		return sector->other;
	return is_sector(data, i, sector->pending) ? sector->pending : NONE;
}

void image_check(struct image *image, const struct life *life, char *why, size_t size)
{
	uint64_t first = life->offset / SECTOR, end = first + life->capacity / SECTOR;
	bool read_only = life->flags & VHOST_BLK_CONFIG_READ_ONLY;
	uint8_t *data = image_read(image);
	bool wrong = false;

	for (uint64_t i = 0; i < IMAGE_SECTORS && !wrong; i++) {
		const uint8_t *at = data + i * SECTOR;
		bool inside = i >= first && i < end;

		if (image->shadow) {
			struct sector *sector = &image->shadow[i];
			uint32_t version = found(at, i, sector);

			wrong = version == NONE;
			if (wrong)
				snprintf(why, size, "\n%s: sector %llu (%s the disk) holds %02x%02x%02x%02x…, "
					 "not version %u, %u or %u; last changed by type %u, status %u", image->path, (unsigned long long)i,
					 inside ? "in" : "outside", at[0], at[1], at[2], at[3], sector->now,
					 sector->other, sector->pending, sector->last_type, sector->last_status);
			sector->now = sector->other = version;
			sector->pending = NONE;
		} else if ((!inside || read_only) && memcmp(at, image->before + i * SECTOR, SECTOR)) {
			wrong = true;
			snprintf(why, size, "\n%s: sector %llu, %s, was changed by a hostile guest", image->path,
				 (unsigned long long)i, inside ? "read-only" : "outside the disk");
		}
	}
	free(data);
}
