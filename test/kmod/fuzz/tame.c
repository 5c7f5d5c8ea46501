// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest that keeps the rules of virtio, if in odd ways, and knows what must come of each request: status, used length,
 * data, what memory changes and what doesn't, which pages are logged, and that each head is answered once.
 */
#define _GNU_SOURCE
#include "fuzz.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_SEGS 100
#define MAX_SECTORS 64
#define MAX_RANGES 4
#define FILL 0xc5
#define UNANSWERED 0xee
/* Without an answer for so long, the queue has lost something. */
#define PATIENCE_MS 20000

enum outcome { FINE, WRONG, UNSUPPORTED, FINE_OR_UNSUPPORTED };

struct range {
	uint64_t first; /* of the image */
	unsigned int count;
};

struct slot {
	bool used;
	uint32_t type;
	enum outcome outcome;
	struct range ranges[MAX_RANGES]; /* sectors that it reads or changes, if it is valid */
	unsigned int range_count;
	uint32_t versions[MAX_SECTORS]; /* of what it writes */
	uint32_t length;                /* of the data */
	struct seg segs[MAX_SEGS];
	unsigned int seg_count;
	unsigned int writable; /* index of the first device-writable segment */
	uint64_t status;
	unsigned int span; /* bytes of the slot's area in use */
	unsigned int descs;
	unsigned int epoch;
};

struct tame {
	struct run *run;
	struct vm *vm;
	struct ring *ring;
	unsigned int queue, num;
	struct random random;
	struct sector *shadow;
	uint64_t first, end; /* the sectors of the image that are this queue's */
	uint8_t busy[IMAGE_SECTORS];
	uint16_t free_descs[RING_NUM];
	unsigned int free_count;
	uint16_t avail;
	struct slot slots[SLOTS];
	struct slot *by_head[RING_NUM];
	uint16_t chains[RING_NUM][RING_NUM]; /* by head: its descriptors */
	uint8_t expect[SLOTS][SLOT_SIZE];    /* what a slot's memory must hold in the end */
	unsigned int inflight;
	unsigned long left;
	uint8_t scratch[SLOT_SIZE];
};

#define WRITER 0xff

static uint64_t slot_area(struct tame *t, const struct slot *slot)
{
	return TAME_AREA(t->queue) + (slot - t->slots) * SLOT_SIZE;
}

static uint8_t *expected(struct tame *t, const struct slot *slot, uint64_t address)
{
	return t->expect[slot - t->slots] + (address - slot_area(t, slot));
}

static bool claim(struct tame *t, const struct range *range, bool write)
{
	for (unsigned int i = 0; i < range->count; i++)
		if (t->busy[range->first + i] >= (write ? 1 : WRITER - 1))
			return false;
	for (unsigned int i = 0; i < range->count; i++)
		t->busy[range->first + i] = write ? WRITER : t->busy[range->first + i] + 1;
	return true;
}

static void release(struct tame *t, const struct range *range, bool write)
{
	for (unsigned int i = 0; i < range->count; i++)
		t->busy[range->first + i] = write ? 0 : t->busy[range->first + i] - 1;
}

/* A range of this queue's sectors, often at an end, in whole blocks of so many sectors. */
static struct range pick_range(struct tame *t, unsigned int most, unsigned int align)
{
	uint64_t first = (t->first + align - 1) / align * align, blocks = (t->end - first) / align;
	unsigned int count = 1 + below(&t->random, chance(&t->random, 70) ? 8 : most);
	uint64_t at;

	count = (count + align - 1) / align;
	if (count > blocks)
		count = blocks;
	at = chance(&t->random, 10) ? 0 : chance(&t->random, 10) ? blocks - count : below(&t->random, blocks - count + 1);
	return (struct range){ first + at * align, count * align };
}

static uint64_t sector_beyond(struct tame *t, unsigned int sectors)
{
	const uint64_t capacity = t->run->life->capacity / SECTOR;
	const uint64_t beyond[] = {
		capacity, capacity - sectors + 1, capacity + below(&t->random, 1 << 20), UINT64_MAX, UINT64_MAX - sectors,
		UINT64_MAX - sectors + 1, UINT64_MAX >> 9, (UINT64_MAX >> 9) + 1, 1ULL << 55, 1ULL << 63,
		-(t->run->life->offset / SECTOR), capacity | next(&t->random) << 32,
	};
	uint64_t sector = PICK(&t->random, beyond);

	/* Of what wraps around, some would be valid. */
	return sector <= capacity - sectors ? capacity : sector;
}

/*
 * The slot's memory, filled from the front: each buffer at the cursor, some a little behind it. What lies between must
 * not change.
 */
struct layout {
	struct tame *t;
	struct slot *slot;
	uint64_t cursor;
};

static uint64_t take(struct layout *l, uint32_t length, bool aligned)
{
	struct random *r = &l->t->random;
	uint64_t address;

	if (aligned)
		l->cursor = (l->cursor + SECTOR - 1) & ~(SECTOR - 1);
	else if (chance(r, 40))
		l->cursor += below(r, 40);
	address = l->cursor;
	l->cursor += length;
	return address;
}

static void add_seg(struct slot *slot, uint64_t address, uint32_t length, bool writable)
{
	slot->segs[slot->seg_count++] = (struct seg){ address, length, writable };
}

/* Cuts length bytes into some buffers. */
static void add_buffers(struct layout *l, uint32_t length, bool writable)
{
	struct random *r = &l->t->random;
	bool aligned = chance(r, 60);
	unsigned int parts = 1 + (chance(r, 50) ? below(r, 4) : chance(r, 10) ? below(r, 30) : 0);

	while (length) {
		uint32_t part = parts-- <= 1 ? length : 1 + below(r, length);

		if (aligned && part > SECTOR)
			part &= ~(SECTOR - 1);
		add_seg(l->slot, take(l, part, aligned), part, writable);
		length -= part;
	}
}

static void fill_segs(struct tame *t, struct slot *slot, unsigned int from, const uint8_t *data, uint32_t length)
{
	for (unsigned int i = from; length; i++) {
		uint32_t n = slot->segs[i].length < length ? slot->segs[i].length : length;

		memcpy(expected(t, slot, slot->segs[i].address), data, n);
		data += n;
		length -= n;
	}
}

/* Lays a request out: header in one to many parts, data, status apart or in the last buffer of data. */
static void lay_out(struct tame *t, struct slot *slot, uint64_t sector, const uint8_t *payload)
{
	struct virtio_blk_outhdr header = { .type = slot->type, .sector = sector };
	struct layout l = { t, slot, slot_area(t, slot) + below(&t->random, 700) };
	bool device_writes = slot->type == VIRTIO_BLK_T_IN || slot->type == VIRTIO_BLK_T_GET_ID;
	unsigned int header_segs;

	memset(t->expect[slot - t->slots], FILL, SLOT_SIZE);
	slot->seg_count = 0;
	if (chance(&t->random, 80)) {
		add_seg(slot, take(&l, sizeof(header), false), sizeof(header), false);
	} else {
		uint32_t left = sizeof(header);

		while (left) {
			uint32_t part = 1 + below(&t->random, left);

			add_seg(slot, take(&l, part, false), part, false);
			left -= part;
		}
	}
	/* Any layout: a header and what is written may share a buffer. */
	header_segs = slot->seg_count;
	if (!device_writes && slot->length && chance(&t->random, 10)) {
		slot->segs[header_segs - 1].length += slot->length;
		l.cursor += slot->length;
	} else {
		add_buffers(&l, slot->length, device_writes);
	}
	if (device_writes && slot->seg_count > header_segs && chance(&t->random, 25)) {
		struct seg *last = &slot->segs[slot->seg_count - 1];

		slot->status = last->address + last->length++;
		l.cursor++;
	} else {
		slot->status = take(&l, 1, false);
		add_seg(slot, slot->status, 1, true);
	}
	slot->writable = device_writes ? header_segs : slot->seg_count - 1;
	slot->span = l.cursor + 64 - slot_area(t, slot);

	{
		uint8_t both[sizeof(header) + MAX_SECTORS * SECTOR];

		memcpy(both, &header, sizeof(header));
		if (payload)
			memcpy(both + sizeof(header), payload, slot->length);
		fill_segs(t, slot, 0, both, sizeof(header) + (payload ? slot->length : 0));
	}
	*expected(t, slot, slot->status) = UNANSWERED;
}

/* Sets what sectors may hold from now until the request is answered. */
static void mark_pending(struct tame *t, struct slot *slot)
{
	for (unsigned int i = 0, n = 0; i < slot->range_count; i++)
		for (unsigned int k = 0; k < slot->ranges[i].count; k++, n++) {
			uint32_t version = slot->type == VIRTIO_BLK_T_OUT ? slot->versions[n] : 0;

			t->shadow[slot->ranges[i].first + k].pending = version;
		}
}

static bool is_change(const struct slot *slot)
{
	return slot->type == VIRTIO_BLK_T_OUT || slot->type == VIRTIO_BLK_T_DISCARD ||
	       slot->type == VIRTIO_BLK_T_WRITE_ZEROES;
}

static bool read_only(const struct tame *t)
{
	return t->run->life->flags & VHOST_BLK_CONFIG_READ_ONLY;
}

/* A read or write; returns its sector, relative to the disk. */
static uint64_t make_transfer(struct tame *t, struct slot *slot, uint8_t *payload)
{
	const uint64_t offset = t->run->life->offset / SECTOR;
	struct range range = pick_range(t, MAX_SECTORS, 1);
	bool write = slot->type == VIRTIO_BLK_T_OUT;
	uint64_t sector = range.first - offset;

	slot->length = range.count * SECTOR;
	if (chance(&t->random, 4)) {
		slot->outcome = WRONG;
		sector = sector_beyond(t, range.count);
	} else if (chance(&t->random, 3)) {
		slot->outcome = WRONG;
		slot->length -= 1 + below(&t->random, SECTOR - 1);
	} else if (write && read_only(t)) {
		slot->outcome = WRONG;
	} else if (chance(&t->random, 2)) {
		slot->length = 0;
	} else if (claim(t, &range, write)) {
		slot->ranges[slot->range_count++] = range;
	} else {
		slot->length = 0;
	}
	if (write)
		for (unsigned int i = 0; i < range.count; i++) {
			slot->versions[i] = atomic_fetch_add(&shared->version, 1) + 2;
			put_sector(payload + i * SECTOR, range.first + i, slot->versions[i]);
		}
	return sector;
}

static void make_ranges(struct tame *t, struct slot *slot, uint8_t *payload)
{
	const uint64_t offset = t->run->life->offset / SECTOR;
	bool discard = slot->type == VIRTIO_BLK_T_DISCARD, wrong = chance(&t->random, 10);
	unsigned int count = 1 + below(&t->random, MAX_RANGES);
	unsigned int align = t->run->life->image->block_sectors;

	slot->outcome = t->run->life->image->block ? FINE_OR_UNSUPPORTED : FINE;
	for (unsigned int i = 0; i < count; i++) {
		struct virtio_blk_discard_write_zeroes wire = {};
		struct range range = pick_range(t, 100, align);

		/* One bad range, and none may be executed. */
		if (wrong && i + 1 == count) {
			wire.sector = sector_beyond(t, range.count);
			wire.num_sectors = range.count;
		} else if (wrong || read_only(t) || claim(t, &range, true)) {
			wire.sector = range.first - offset;
			wire.num_sectors = range.count;
			if (!wrong && !read_only(t))
				slot->ranges[slot->range_count++] = range;
		}
		if (!discard && chance(&t->random, 30))
			wire.flags = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
		memcpy(payload + i * sizeof(wire), &wire, sizeof(wire));
	}
	slot->length = count * sizeof(struct virtio_blk_discard_write_zeroes);
	if (wrong || read_only(t))
		slot->outcome = WRONG;
	if (!(t->run->life->features & 1ULL << (discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES))) {
		slot->outcome = UNSUPPORTED;
		for (unsigned int i = 0; i < slot->range_count; i++)
			release(t, &slot->ranges[i], true);
		slot->range_count = 0;
	}
}

static void make_request(struct tame *t, struct slot *slot)
{
	static const uint32_t types[] = {
		VIRTIO_BLK_T_IN, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_IN,
		VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_OUT,
		VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES, 2, 77, 0x80000000,
	};
	static const uint32_t id_lengths[] = { 20, 20, 20, 19, 1, 21, 40 };
	uint8_t payload[MAX_SECTORS * SECTOR];
	uint64_t sector = 0;

	slot->used = true;
	slot->type = PICK(&t->random, types);
	slot->outcome = FINE;
	slot->range_count = 0;
	slot->length = 0;
	memset(payload, 0x77, sizeof(payload));
	switch (slot->type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		sector = make_transfer(t, slot, payload);
		break;
	case VIRTIO_BLK_T_GET_ID:
		slot->length = PICK(&t->random, id_lengths);
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		make_ranges(t, slot, payload);
		break;
	case VIRTIO_BLK_T_FLUSH:
		break;
	default:
		slot->outcome = UNSUPPORTED;
		slot->length = below(&t->random, 600);
	}
	lay_out(t, slot, sector, slot->type == VIRTIO_BLK_T_IN || slot->type == VIRTIO_BLK_T_GET_ID ? NULL : payload);
	if (is_change(slot))
		mark_pending(t, slot);
}

static uint16_t take_desc(struct tame *t)
{
	unsigned int i = below(&t->random, t->free_count);
	uint16_t desc = t->free_descs[i];

	t->free_descs[i] = t->free_descs[--t->free_count];
	return desc;
}

static struct vring_desc describe(const struct seg *seg)
{
	return (struct vring_desc){ seg->address, seg->length, seg->writable ? VRING_DESC_F_WRITE : 0, 0 };
}

/* The rest of a chain as a table in the slot's memory, behind all else. */
static void put_indirect(struct tame *t, struct slot *slot, struct vring_desc *desc, unsigned int from)
{
	struct vring_desc table[MAX_SEGS];
	unsigned int count = slot->seg_count - from;
	uint64_t address = slot_area(t, slot) + slot->span + below(&t->random, 20);

	for (unsigned int i = 0; i < count; i++) {
		table[i] = describe(&slot->segs[from + i]);
		if (i + 1 < count) {
			table[i].flags |= VRING_DESC_F_NEXT;
			table[i].next = i + 1;
		}
	}
	*desc = (struct vring_desc){ address, count * sizeof(*table), VRING_DESC_F_INDIRECT, 0 };
	memcpy(expected(t, slot, address), table, count * sizeof(*table));
	slot->span = address + count * sizeof(*table) + 64 - slot_area(t, slot);
}

/* False if the ring has no room for it. */
static bool make_available(struct tame *t, struct slot *slot)
{
	unsigned int direct = slot->seg_count;
	uint16_t head = 0, previous = 0;

	if (direct > t->free_count || chance(&t->random, 40))
		direct = chance(&t->random, 80) ? 0 : below(&t->random, t->free_count < direct ? t->free_count : direct);
	if (!t->free_count)
		return false;
	slot->descs = 0;
	for (unsigned int i = 0; i < direct || (i == direct && direct < slot->seg_count); i++) {
		uint16_t index = take_desc(t);
		struct vring_desc desc;

		if (i < direct)
			desc = describe(&slot->segs[i]);
		else
			put_indirect(t, slot, &desc, i);
		if (i)
			t->ring->desc[previous].flags |= VRING_DESC_F_NEXT, t->ring->desc[previous].next = index;
		else
			head = index;
		t->ring->desc[index] = desc;
		t->chains[head][slot->descs++] = index;
		previous = index;
	}
	t->by_head[head] = slot;
	guest_write(t->vm, slot_area(t, slot), t->expect[slot - t->slots], slot->span);
	slot->epoch = atomic_load(&t->run->log_epoch);
	t->ring->avail->ring[t->avail % t->num] = head;
	t->avail++;
	__atomic_store_n(&t->ring->avail->idx, t->avail, __ATOMIC_RELEASE);
	t->inflight++;
	return true;
}

static bool events(struct tame *t)
{
	return t->run->life->features & 1ULL << VIRTIO_RING_F_EVENT_IDX;
}

/* Kicks only if the device asked to be: a kick that it forgot to ask for is a request lost. */
static void notify(struct tame *t, uint16_t old)
{
	uint16_t event;
	bool wanted;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (events(t)) {
		memcpy(&event, &t->ring->used->ring[t->num], sizeof(event));
		wanted = vring_need_event(event, t->avail, old);
	} else {
		wanted = !(__atomic_load_n(&t->ring->used->flags, __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY);
	}
	if (wanted || chance(&t->random, 3))
		kick(t->vm, t->queue);
}

static void check_read(struct tame *t, struct slot *slot)
{
	uint8_t data[MAX_SECTORS * SECTOR];
	uint32_t left = slot->length;
	uint8_t *at = data;

	for (unsigned int i = slot->writable; left; i++) {
		uint32_t n = slot->segs[i].length < left ? slot->segs[i].length : left;

		guest_read(t->vm, slot->segs[i].address, at, n);
		at += n;
		left -= n;
	}
	for (unsigned int i = 0; i < slot->length / SECTOR; i++) {
		uint64_t index = slot->ranges[0].first + i;
		struct sector *sector = &t->shadow[index];
		const uint8_t *got = data + i * SECTOR;

		if (is_sector(got, index, sector->now))
			sector->other = sector->now;
		else if (is_sector(got, index, sector->other))
			sector->now = sector->other;
		else
			fail("queue %u read %02x%02x%02x%02x… from sector %llu of the image, which held version %u or %u; "
			     "last changed by type %u, status %u",
			     t->queue, got[0], got[1], got[2], got[3], (unsigned long long)index, sector->now, sector->other,
			     sector->last_type, sector->last_status);
	}
	fill_segs(t, slot, slot->writable, data, slot->length);
}

/* What a failed read has left in its buffers is nobody's business. */
static void ignore_data(struct tame *t, struct slot *slot)
{
	for (unsigned int i = slot->writable; i < slot->seg_count; i++)
		guest_read(t->vm, slot->segs[i].address, expected(t, slot, slot->segs[i].address), slot->segs[i].length);
}

static void settle_changes(struct tame *t, struct slot *slot, uint8_t status)
{
	bool done = status == VIRTIO_BLK_S_OK;

	for (unsigned int i = 0, n = 0; i < slot->range_count; i++)
		for (unsigned int k = 0; k < slot->ranges[i].count; k++, n++) {
			struct sector *sector = &t->shadow[slot->ranges[i].first + k];

			if (done && slot->type == VIRTIO_BLK_T_DISCARD)
				sector->other = 0;
			else if (done)
				sector->now = sector->other = slot->type == VIRTIO_BLK_T_OUT ? slot->versions[n] : 0;
			sector->pending = NONE;
			sector->last_type = slot->type;
			sector->last_status = status;
		}
}

static void check_log(struct tame *t, const struct slot *slot)
{
	if (!(slot->epoch & 1) || slot->epoch != atomic_load(&t->run->log_epoch))
		return;
	for (unsigned int i = slot->writable; i < slot->seg_count; i++)
		for (uint64_t page = slot->segs[i].address & ~(PAGE - 1);
		     page < slot->segs[i].address + slot->segs[i].length; page += PAGE)
			CHECK(vm_logged(t->vm, page), "queue %u: page %#llx, which a request of type %u wrote, is not in the log",
			      t->queue, (unsigned long long)page, slot->type);
}

static void check_memory(struct tame *t, const struct slot *slot)
{
	const uint8_t *want = t->expect[slot - t->slots];

	guest_read(t->vm, slot_area(t, slot), t->scratch, slot->span);
	if (!memcmp(t->scratch, want, slot->span))
		return;
	for (unsigned int i = 0; i < slot->span; i++)
		CHECK(t->scratch[i] == want[i],
		      "queue %u: a request of type %u with %u bytes left byte %u of its memory as %02x, not %02x", t->queue,
		      slot->type, slot->length, i, t->scratch[i], want[i]);
}

static void check_status(struct tame *t, const struct slot *slot, uint8_t status)
{
	static const char *const names[] = { "OK", "IOERR", "UNSUPP", "OK or UNSUPP" };
	bool right = slot->outcome == FINE_OR_UNSUPPORTED ? status == VIRTIO_BLK_S_OK || status == VIRTIO_BLK_S_UNSUPP :
							   status == (uint8_t)slot->outcome;

	CHECK(right, "queue %u: a request of type %u with %u bytes on %u ranges ended with status %u, not %s", t->queue,
	      slot->type, slot->length, slot->range_count, status, names[slot->outcome]);
}

static void check_length(const struct slot *slot, uint8_t status, uint32_t got)
{
	uint32_t room = 0, want = 1;

	for (unsigned int i = slot->writable; i < slot->seg_count; i++)
		room += slot->segs[i].length;
	if (slot->type == VIRTIO_BLK_T_IN)
		want = slot->length + 1;
	else if (slot->type == VIRTIO_BLK_T_GET_ID)
		want = slot->length > VHOST_BLK_SERIAL_LEN ? VHOST_BLK_SERIAL_LEN : slot->length + 1;
	if (status == VIRTIO_BLK_S_OK)
		EQUAL(got, want, "used.len");
	CHECK(got <= room, "used.len is %u, and there was room for %u", got, room);
}

static void finish(struct tame *t, struct vring_used_elem used)
{
	struct slot *slot = used.id < t->num ? t->by_head[used.id] : NULL;
	static const uint8_t serial[VHOST_BLK_SERIAL_LEN] = "serial \\ 0123456\x01";
	uint8_t status;

	CHECK(slot, "queue %u: head %u was answered, and is not in flight", t->queue, used.id);
	guest_read(t->vm, slot->status, &status, 1);
	check_status(t, slot, status);
	check_length(slot, status, used.len);
	*expected(t, slot, slot->status) = status;
	if (slot->type == VIRTIO_BLK_T_IN && status == VIRTIO_BLK_S_OK && slot->length)
		check_read(t, slot);
	else if (slot->type == VIRTIO_BLK_T_IN)
		ignore_data(t, slot);
	else if (slot->type == VIRTIO_BLK_T_GET_ID)
		fill_segs(t, slot, slot->writable, serial,
			  slot->length < VHOST_BLK_SERIAL_LEN ? slot->length : VHOST_BLK_SERIAL_LEN);
	else
		settle_changes(t, slot, status);
	check_memory(t, slot);
	check_log(t, slot);

	for (unsigned int i = 0; i < slot->range_count; i++)
		release(t, &slot->ranges[i], is_change(slot));
	for (unsigned int i = 0; i < slot->descs; i++)
		t->free_descs[t->free_count++] = t->chains[used.id][i];
	t->by_head[used.id] = NULL;
	slot->used = false;
	t->inflight--;
	atomic_fetch_add(&shared->answered, 1);
}

static uint16_t used_index(struct tame *t)
{
	return __atomic_load_n(&t->ring->used->idx, __ATOMIC_ACQUIRE);
}

static bool reap_all(struct tame *t)
{
	bool any = false;

	for (; used_index(t) != t->ring->used_seen; any = true)
		finish(t, t->ring->used->ring[t->ring->used_seen++ % t->num]);
	return any;
}

/* Asks for a call at the next used element, or for none. */
static void want_call(struct tame *t, bool wanted)
{
	uint16_t event = t->ring->used_seen + (wanted ? 0 : 0x7fff);

	if (events(t))
		t->ring->avail->ring[t->num] = event;
	else
		t->ring->avail->flags = wanted ? 0 : VRING_AVAIL_F_NO_INTERRUPT;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void wait_for_some(struct tame *t)
{
	struct pollfd call = { .fd = t->ring->call, .events = POLLIN };
	uint64_t calls;

	if (chance(&t->random, 10)) {
		want_call(t, false);
		for (unsigned int i = 0; i < 50 && used_index(t) == t->ring->used_seen; i++)
			usleep(20);
		if (reap_all(t))
			return;
	}
	for (;;) {
		want_call(t, true);
		if (reap_all(t))
			return;
		if (poll(&call, 1, PATIENCE_MS) == 1) {
			if (read(t->ring->call, &calls, sizeof(calls)) < 0 && errno != EAGAIN)
				fail("reading the call: %s", strerror(errno));
			continue;
		}
		CHECK(used_index(t) == t->ring->used_seen, "queue %u: an answer came without a call", t->queue);
		fail("queue %u: %u requests without an answer for %d s; used index %u, available %u", t->queue, t->inflight,
		     PATIENCE_MS / 1000, used_index(t), t->avail);
	}
}

static void submit_some(struct tame *t)
{
	unsigned int most = 1 + below(&t->random, SLOTS);
	uint16_t old = t->avail;

	for (unsigned int i = 0; i < SLOTS && most && t->left; i++) {
		struct slot *slot = &t->slots[i];

		if (slot->used || !t->free_count)
			continue;
		make_request(t, slot);
		make_available(t, slot);
		t->left--;
		most--;
		if (chance(&t->random, 20)) {
			notify(t, old);
			old = t->avail;
		}
	}
	if (t->avail != old)
		notify(t, old);
}

void tame_guest(struct run *run, unsigned int queue)
{
	const struct life *life = run->life;
	uint64_t first = life->offset / SECTOR, share = life->capacity / SECTOR / life->tame;
	struct tame *t = calloc(1, sizeof(*t));

	t->run = run;
	t->vm = run->vm;
	t->ring = &run->vm->ring[queue];
	t->queue = queue;
	t->num = life->num;
	t->random.state = life->seed * 31 + queue;
	t->shadow = life->image->shadow;
	t->first = first + queue * share;
	t->end = queue + 1 == life->tame ? first + life->capacity / SECTOR : t->first + share;
	t->avail = t->ring->avail->idx;
	t->free_count = t->num;
	for (unsigned int i = 0; i < t->num; i++)
		t->free_descs[i] = i;
	t->left = life->requests;

	while (t->left || t->inflight) {
		submit_some(t);
		if (chance(&t->random, 30))
			reap_all(t);
		else if (t->inflight)
			wait_for_some(t);
	}
	free(t);
}
