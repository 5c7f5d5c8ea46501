/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a disk must hold, sector by sector. Every write of a sector has a generation of its own, which its content
 * tells; the model remembers which were issued, answered and made durable. It lives in a file, so that it outlives a
 * driver that is killed.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECTOR 512

/* Generations count from 1; at 0 the disk is all zeroes. */
struct sector {
	uint32_t issued;  /* the last that was begun */
	uint32_t acked;   /* the last that was answered OK: reads give this one or a later one */
	uint32_t durable; /* the last that must survive a crash */
	uint32_t zeroed;  /* the last that may have made zeroes of it */
};

struct model {
	uint64_t magic;
	uint64_t sectors;
	uint64_t seed;
	uint64_t reserved;
	struct sector sector[];
};

size_t model_bytes(uint64_t sectors);
/* Maps the model in that file, made anew for a disk of zeroes if sectors is not 0. Fails the program on any error. */
struct model *model_open(const char *path, uint64_t sectors, uint64_t seed);
/* One sector's content. */
void model_fill(const struct model *model, uint64_t sector, uint32_t generation, uint8_t *data);
/*
 * May the sector hold this? At least the generation low, at most what high has issued. Returns NULL, or how it
 * differs, valid until the next call.
 */
const char *model_compare(const struct model *model, uint64_t sector, const uint8_t *data, uint32_t low,
			  const struct sector *high);

#endif
