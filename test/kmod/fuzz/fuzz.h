/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A structure-aware fuzzer of /dev/vhost-blk. It runs "lives", one process each: a VM whose queues are driven by tame
 * guests, which keep the rules and know what each answer must be, and by hostile ones, which don't, while a VMM thread
 * calls ioctls. The parent kills some lives at a random moment, and looks at the images after each.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <pthread.h>
#include <stdatomic.h>

#include "../ring/ring.h"

#define SECTOR 512ULL
#define IMAGE_SECTORS 4096ULL
#define IMAGE_SIZE (IMAGE_SECTORS * SECTOR)

/* Guest addresses beside ring.h's: slots of the tame queues lie around BORDER, the hostile ones own the end. */
#define SLOT_SIZE (64 * KIB)
#define SLOTS 16
#define TAME_AREA(queue) (BORDER - 8 * SLOT_SIZE + (queue) * (SLOTS * SLOT_SIZE + PAGE))
#define MAX_TAME 3
#define HOSTILE_SIZE (1 * MIB)
#define MAX_HOSTILE 3
#define HOSTILE_AREA(n) (GUEST_END - (MAX_HOSTILE - (n)) * HOSTILE_SIZE)
/* Memory that comes and goes under a wild VM. Only the kernel touches it. */
#define VOLATILE_BASE (GUEST_END + 64 * MIB)
#define VOLATILE_SIZE (256 * KIB)

/* splitmix64: every choice of a thread follows from its seed. */
struct random {
	uint64_t state;
};

static inline uint64_t next(struct random *r)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

/* Less than n. */
static inline uint64_t below(struct random *r, uint64_t n)
{
	return next(r) % n;
}

static inline bool chance(struct random *r, unsigned int percent)
{
	return below(r, 100) < percent;
}

#define PICK(r, array) ((array)[below(r, sizeof(array) / sizeof(*(array)))])

/*
 * What a sector of an image may hold: versions of its pattern, 0 for zeroes. A write in flight is pending; other
 * differs from now after a discard, which may or may not have zeroed.
 */
struct sector {
	uint32_t now, other, pending;
	uint32_t last_type, last_status; /* of what tried to change it last */
};
#define NONE UINT32_MAX

/* What the lives share with their parent, and keep when they are killed. */
struct shared {
	atomic_ulong answered; /* requests of tame guests, each checked */
	atomic_ulong taken;    /* chains of hostile guests that the kernel took */
	atomic_ulong broken;   /* rings that it rightly gave up on */
	atomic_ulong ioctls;
	atomic_ulong refused;  /* of those, the ones that had to fail and did */
	atomic_uint version;
	char doing[64];        /* the VMM thread's last step, for the report of a hang */
};
extern struct shared *shared;

struct image {
	const char *path;
	bool block;
	unsigned int block_sectors; /* what discards and zeroes must be aligned to */
	struct sector *shadow;      /* shared; for tame queues' images */
	uint8_t *before;            /* hostile queues' images: content before the life */
};

struct life {
	uint64_t seed;
	unsigned int index;
	bool wild; /* no tame queue, and a VMM that breaks every rule */
	bool kill;
	unsigned int tame, hostile; /* queues: the tame ones come first */
	unsigned int num;           /* ring size of the tame ones */
	uint64_t features;
	struct image *image, *hostile_image;
	int open_flags, hostile_flags;
	uint64_t offset, capacity; /* bytes */
	uint32_t flags;            /* VHOST_BLK_CONFIG_* at the start */
	bool log;
	unsigned long requests; /* of each tame queue */
};

struct run {
	const struct life *life;
	struct vm *vm;
	pthread_mutex_t lock[MAX_QUEUES]; /* held over a stop and start of that queue */
	atomic_uint log_epoch;            /* odd: everything is logged */
	atomic_bool over;                 /* the guests are done */
	uint8_t *volatile_memory;
};

/* image.c */
void put_sector(uint8_t *data, uint64_t sector, uint32_t version);
bool is_sector(const uint8_t *data, uint64_t sector, uint32_t version);
void image_init(struct image *image, bool tame);
/* Parent, before a life: remembers the hostile image. After it: what must not have changed has not, and what may is known. */
void image_remember(struct image *image);
void image_check(struct image *image, const struct life *life, char *why, size_t size);
int image_open(const struct image *image, int flags);

/* setup.c */
struct run *run_open(const struct life *life);
/* VHOST_SET_MEM_TABLE; returns 0 or the error. */
int run_memory(struct run *run);
void run_guard(struct run *run);
void run_check_guards(struct run *run);
void hostile_ring_reset(struct run *run, unsigned int queue);
void tame_ring_reset(struct run *run, unsigned int queue);
int open_backend(const struct life *life, bool tame, struct random *random);

/* tame.c: a guest that keeps the rules, with an oracle. Returns when its requests are answered. */
void tame_guest(struct run *run, unsigned int queue);
/* hostile.c: one that doesn't, and one that rewrites its rings meanwhile, until the run is over. */
void hostile_guest(struct run *run, unsigned int queue);
void scribbler(struct run *run);
uint64_t hostile_address(struct random *random, unsigned int number);
/* vmm.c: until the run is over. */
void polite_vmm(struct run *run);
void wild_vmm(struct run *run);

#endif
