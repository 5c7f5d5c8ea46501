// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unpacks what the kernel's build packs a bzImage's payload with if it is LZ4: the "legacy" frame, blocks of at most 8
 * MiB each with its size before it. Few hosts have the lz4 program; all need this before the first boot of a new
 * kernel. Formats: lz4's doc/lz4_Frame_format.md (legacy frame) and doc/lz4_Block_format.md.
 */
#include "lz4.h"

#include <stdlib.h>
#include <string.h>

#define LZ4_LEGACY_BLOCK (8U << 20)
#define LZ4_MIN_MATCH 4

/* A length's low four bits come from the token; 15 goes on in bytes, the last of which is not 255. */
static size_t take_length(struct blob in, size_t *at, unsigned int low)
{
	size_t length = low;
	uint8_t more = 255;

	while (low == 15 && more == 255) {
		if (*at >= in.size)
			die("%s: damaged LZ4 data", in.path);
		more = in.data[(*at)++];
		length += more;
	}
	return length;
}

/* Unpacks one block to out, which has room for LZ4_LEGACY_BLOCK bytes; returns their number. */
static size_t unpack_block(struct blob in, uint8_t *out)
{
	size_t at = 0, done = 0;

	while (at < in.size) {
		unsigned int token = in.data[at++];
		size_t length = take_length(in, &at, token >> 4);
		size_t distance;

		if (length > in.size - at || length > LZ4_LEGACY_BLOCK - done)
			die("%s: damaged LZ4 data", in.path);
		memcpy(out + done, in.data + at, length);
		done += length;
		at += length;
		if (at == in.size)
			break; /* a block ends with literals */

		if (in.size - at < 2)
			die("%s: damaged LZ4 data", in.path);
		distance = in.data[at] | in.data[at + 1] << 8;
		at += 2;
		length = take_length(in, &at, token & 15) + LZ4_MIN_MATCH;
		if (!distance || distance > done || length > LZ4_LEGACY_BLOCK - done)
			die("%s: damaged LZ4 data", in.path);
		/* Byte by byte: a match may overlap what it makes. */
		for (; length; length--, done++)
			out[done] = out[done - distance];
	}
	return done;
}

bool is_lz4(struct blob file)
{
	static const uint8_t magic[] = { 0x02, 0x21, 0x4c, 0x18 };

	return file.size >= sizeof(magic) && !memcmp(file.data, magic, sizeof(magic));
}

struct blob lz4_unpack(struct blob file)
{
	struct blob whole = { file.path, NULL, 0 };
	uint8_t *data = NULL;
	size_t at = 4;

	while (file.size - at > sizeof(uint32_t)) {
		uint32_t size;

		memcpy(&size, file.data + at, sizeof(size));
		at += sizeof(size);
		if (size > file.size - at)
			die("%s: damaged LZ4 data", file.path);
		data = realloc(data, whole.size + LZ4_LEGACY_BLOCK);
		if (!data)
			die("out of memory");
		whole.size += unpack_block((struct blob){ file.path, file.data + at, size }, data + whole.size);
		at += size;
	}
	whole.data = data;
	return whole;
}
