// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest that means harm. Its chains are built like honest ones and then broken, it rewrites them while they are served,
 * and starts its ring anew when the kernel has given up on it. It names no memory but its own and such as no guest has:
 * whatever else changes is the kernel's fault.
 */
#define _GNU_SOURCE
#include "fuzz.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DATA_OFFSET (64 * KIB)
#define DATA_SIZE (HOSTILE_SIZE - DATA_OFFSET)

uint64_t hostile_address(struct random *r, unsigned int number)
{
	const uint64_t area = HOSTILE_AREA(number), middle = HOSTILE_AREA(1) + HOSTILE_SIZE / 2;
	const uint64_t nowhere[] = {
		0, below(r, 8192), GUEST_END, GUEST_END + below(r, 32 * MIB), GUEST_BASE - 1 - below(r, 8192), UINT64_MAX,
		UINT64_MAX - below(r, 1 << 20), 0xffff888000000000ULL + below(r, 1 << 30), 0xffffffff81000000ULL + below(r, 1 << 24),
		0x00007ffffffff000ULL, 1ULL << 63, 1ULL << 47, (uintptr_t)r, (uintptr_t)hostile_address,
	};

	switch (below(r, 16)) {
	case 0:
		return area + below(r, 24 * KIB); /* the ring itself */
	case 1:
		return GUEST_END - below(r, 8192);
	case 2:
		return middle - below(r, 8192);
	case 3:
		return PICK(r, nowhere);
	case 4:
		return VOLATILE_BASE + below(r, VOLATILE_SIZE + 4096);
	case 5 ... 9:
		return area + DATA_OFFSET + below(r, DATA_SIZE / SECTOR) * SECTOR;
	default:
		return area + DATA_OFFSET + below(r, DATA_SIZE);
	}
}

static uint32_t hostile_length(struct random *r)
{
	const uint32_t odd[] = { 0, 1, 15, 16, 17, 511, 513, 0x7fffffff, 0x80000000, 0xfffffe00, 0xffffffff, 0xfffff000,
				 (uint32_t)next(r), 65536, 1 << 20 };

	return chance(r, 75) ? (1 + below(r, 16)) * SECTOR : chance(r, 50) ? below(r, 70000) : PICK(r, odd);
}

static uint64_t hostile_sector(struct random *r, const struct life *life)
{
	const uint64_t end = life->capacity / SECTOR;
	const uint64_t odd[] = { end, end - 1, end + below(r, IMAGE_SECTORS), UINT64_MAX, UINT64_MAX - below(r, 100),
				 UINT64_MAX >> 9, (UINT64_MAX >> 9) + 1, 1ULL << 55, 1ULL << 63, next(r), -(life->offset / SECTOR) };

	return chance(r, 60) ? below(r, end) : PICK(r, odd);
}

struct hostile {
	struct run *run;
	struct vm *vm;
	struct ring *ring;
	unsigned int queue, number;
	struct random random;
	uint16_t avail, next_desc;
	uint64_t cursor; /* in the data area */
};

static uint64_t room(struct hostile *h, uint32_t length)
{
	uint64_t at;

	if (h->cursor + length + 64 > DATA_SIZE)
		h->cursor = 0;
	at = HOSTILE_AREA(h->number) + DATA_OFFSET + h->cursor;
	h->cursor += length + below(&h->random, 64);
	return at;
}

static unsigned int honest_chain(struct hostile *h, struct vring_desc *chain)
{
	static const uint32_t types[] = { 0, 0, 0, 1, 1, 1, 4, 8, 11, 13, 2, 0x80000001, 0xffffffff, 0x01000000 };
	struct random *r = &h->random;
	struct virtio_blk_outhdr header = { PICK(r, types), (uint32_t)next(r), hostile_sector(r, h->run->life) };
	bool reads = header.type == VIRTIO_BLK_T_IN || header.type == VIRTIO_BLK_T_GET_ID;
	uint64_t at = room(h, sizeof(header));
	unsigned int n = 0;

	guest_write(h->vm, at, &header, sizeof(header));
	chain[n++] = (struct vring_desc){ at, sizeof(header), 0, 0 };
	if (header.type == VIRTIO_BLK_T_DISCARD || header.type == VIRTIO_BLK_T_WRITE_ZEROES) {
		unsigned int count = chance(r, 90) ? 1 + below(r, 8) : below(r, 600);

		at = room(h, count * sizeof(struct virtio_blk_discard_write_zeroes));
		for (unsigned int i = 0; i < count; i++) {
			struct virtio_blk_discard_write_zeroes range = {
				hostile_sector(r, h->run->life), chance(r, 80) ? below(r, 64) : next(r), chance(r, 90) ? below(r, 2) : next(r),
			};

			guest_write(h->vm, at + i * sizeof(range), &range, sizeof(range));
		}
		chain[n++] = (struct vring_desc){ at, count * sizeof(struct virtio_blk_discard_write_zeroes), 0, 0 };
	} else if (header.type != VIRTIO_BLK_T_FLUSH) {
		for (unsigned int i = 1 + below(r, 3); i; i--) {
			uint32_t length = (1 + below(r, 8)) * SECTOR;

			chain[n++] = (struct vring_desc){ room(h, length), length, reads ? VRING_DESC_F_WRITE : 0, 0 };
		}
	}
	chain[n++] = (struct vring_desc){ room(h, 1), 1, VRING_DESC_F_WRITE, 0 };
	return n;
}

/* Faults of a chain that may still be answered. */
static unsigned int distort(struct hostile *h, struct vring_desc *chain, unsigned int n)
{
	struct random *r = &h->random;
	struct vring_desc *desc = &chain[below(r, n)];

	switch (below(r, 9)) {
	case 0:
		desc->addr = hostile_address(r, h->number);
		break;
	case 1:
		desc->len = hostile_length(r);
		/* A length alone would reach from memory of ours into others': give it an address too. */
		desc->addr = hostile_address(r, h->number);
		break;
	case 2:
		desc->len = 0;
		break;
	case 3:
		desc->flags ^= VRING_DESC_F_WRITE;
		break;
	case 4:
		return n - 1;
	case 5:
		chain[0].len = below(r, 20);
		break;
	case 6:
		chain[n] = chain[below(r, n)];
		return n + 1;
	case 7: {
		struct vring_desc other = chain[0];

		chain[0] = *desc;
		*desc = other;
		break;
	}
	case 8:
		desc->len += chance(r, 50) ? 1 : -1;
	}
	return n;
}

static uint16_t table_index(struct hostile *h)
{
	return h->next_desc++ % RING_NUM;
}

/* Puts a chain into the descriptor table or a table of its own, with faults of linkage now and then. */
static uint16_t place(struct hostile *h, struct vring_desc *chain, unsigned int n)
{
	struct random *r = &h->random;
	bool broken = chance(r, 4);
	uint16_t head = h->next_desc % RING_NUM;

	if (chance(r, 40)) {
		uint64_t at = room(h, n * sizeof(*chain));
		uint32_t length = n * sizeof(*chain);

		for (unsigned int i = 0; i < n; i++) {
			chain[i].flags |= i + 1 < n ? VRING_DESC_F_NEXT : 0;
			chain[i].next = i + 1;
		}
		if (broken) {
			struct vring_desc *desc = &chain[below(r, n)];
			const uint32_t lengths[] = { 0, 1, length - 1, length + 8, 16, 0xfffffff0, 1 << 20, 1 << 21 };

			switch (below(r, 4)) {
			case 0: /* a table in a table */
				desc->flags |= VRING_DESC_F_INDIRECT;
				break;
			case 1: /* a loop, or out of it */
				desc->next = next(r);
				desc->flags |= VRING_DESC_F_NEXT;
				break;
			case 2:
				length = PICK(r, lengths);
				break;
			case 3:
				at = hostile_address(r, h->number);
			}
		}
		if (at >= HOSTILE_AREA(0) && at <= GUEST_END - n * sizeof(*chain))
			guest_write(h->vm, at, chain, n * sizeof(*chain));
		h->ring->desc[table_index(h)] = (struct vring_desc){ at, length, VRING_DESC_F_INDIRECT | (broken ? below(r, 8) : 0),
								   next(r) };
		return head;
	}
	for (unsigned int i = 0; i < n; i++) {
		uint16_t index = table_index(h);

		chain[i].flags |= i + 1 < n ? VRING_DESC_F_NEXT : 0;
		chain[i].next = h->next_desc % RING_NUM;
		if (broken && chance(r, 30)) {
			chain[i].flags = next(r);
			chain[i].next = chance(r, 50) ? head : next(r);
		}
		h->ring->desc[index] = chain[i];
	}
	return head;
}

static void offer(struct hostile *h)
{
	struct random *r = &h->random;
	struct vring_desc chain[64];
	unsigned int n = honest_chain(h, chain);
	uint16_t head;

	for (unsigned int i = chance(r, 50) ? below(r, 4) : 0; i && n; i--)
		n = distort(h, chain, n);
	head = n ? place(h, chain, n) : 0;
	h->ring->avail->ring[h->avail++ % RING_NUM] = chance(r, 99) ? head : next(r);
	/* The same head again. */
	if (chance(r, 5))
		for (unsigned int i = below(r, 10); i; i--)
			h->ring->avail->ring[h->avail++ % RING_NUM] = head;
}

static void play_with_events(struct hostile *h)
{
	h->ring->avail->flags = next(&h->random);
	h->ring->avail->ring[RING_NUM] = next(&h->random);
}

/* Stops, looks, and begins anew; a wild VMM may be in the way of any of it. */
static void restart(struct hostile *h)
{
	struct run *run = h->run;
	int fd, error;

	pthread_mutex_lock(&run->lock[h->queue]);
	error = vm_backend(h->vm, h->queue, -1);
	if (!run->life->wild) {
		struct vhost_blk_stats stats = vm_stats(h->vm, h->queue);

		EQUAL(error, 0, "stopping a hostile guest's queue");
		EQUAL(stats.inflight, stats.held, "in flight after the stop, and held");
	}
	hostile_ring_reset(run, h->queue);
	/* What a new ring finds there at its start. */
	if (chance(&h->random, 20))
		for (unsigned int i = 0; i < 8 * KIB / sizeof(uint64_t); i++)
			((uint64_t *)h->ring->desc)[i] = hostile_address(&h->random, h->number);
	h->avail = h->next_desc = 0;
	fd = open_backend(run->life, false, &h->random);
	error = vm_backend(h->vm, h->queue, fd);
	if (!run->life->wild)
		EQUAL(error, 0, "starting a hostile guest's queue");
	close(fd);
	pthread_mutex_unlock(&run->lock[h->queue]);
}

static uint16_t used_index(struct hostile *h)
{
	return __atomic_load_n(&h->ring->used->idx, __ATOMIC_ACQUIRE);
}

void hostile_guest(struct run *run, unsigned int queue)
{
	struct hostile h = { .run = run, .vm = run->vm, .ring = &run->vm->ring[queue], .queue = queue };
	unsigned long left = run->life->requests;

	h.number = queue - run->life->tame;
	h.random.state = run->life->seed * 131 + queue;
	while (left && !(run->life->tame && atomic_load(&run->over))) {
		unsigned int batch = 1 + below(&h.random, 20);
		uint16_t before = used_index(&h), after;

		if (batch > left)
			batch = left;
		left -= batch;
		while (batch--)
			offer(&h);
		if (chance(&h.random, 20))
			play_with_events(&h);
		/* Far ahead now and then. */
		__atomic_store_n(&h.ring->avail->idx, h.avail + (chance(&h.random, 1) ? next(&h.random) : 0), __ATOMIC_RELEASE);
		kick(h.vm, queue);
		for (unsigned int i = 0; i < 40 && used_index(&h) != h.avail; i++)
			usleep(100);
		after = used_index(&h);
		atomic_fetch_add(&shared->taken, (uint16_t)(after - before));
		if (after != h.avail || chance(&h.random, 2)) {
			atomic_fetch_add(&shared->broken, after != h.avail);
			restart(&h);
		}
	}
}

/* Rewrites rings and tables under the kernel's eyes. */
void scribbler(struct run *run)
{
	struct random r = { run->life->seed * 977 };

	while (!atomic_load(&run->over)) {
		unsigned int number = below(&r, run->life->hostile);
		struct ring *ring = &run->vm->ring[run->life->tame + number];
		struct vring_desc *desc = &ring->desc[below(&r, RING_NUM)];

		switch (below(&r, 5)) {
		case 0:
			desc->len = hostile_length(&r);
			desc->addr = hostile_address(&r, number);
			break;
		case 1:
			desc->addr = hostile_address(&r, number);
			break;
		case 2:
			desc->flags = next(&r);
			break;
		case 3:
			desc->next = next(&r);
			break;
		case 4:
			ring->avail->ring[below(&r, RING_NUM)] = below(&r, RING_NUM);
		}
		usleep(below(&r, 300));
	}
}
