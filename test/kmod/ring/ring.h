/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VMM and its guest in one process, for /dev/vhost-blk: owns the guest's memory, lays out split virtqueues in it,
 * kicks, and reaps. Failures end the case (a process of its own) with their reason.
 */
#ifndef RING_H
#define RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/vhost.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "vhost_blk.h"

#define KIB 1024ULL
#define MIB (1024 * KIB)
#define PAGE 4096ULL

/*
 * Guest memory: two regions that adjoin in the guest's addresses and not in ours, so that a buffer across BORDER is
 * split by the translation. Rings come first, then room for data.
 */
#define GUEST_BASE 0x40000000ULL
#define REGION_SIZE (16 * MIB)
#define BORDER (GUEST_BASE + REGION_SIZE)
#define GUEST_END (BORDER + REGION_SIZE)
#define DATA (GUEST_BASE + 4 * MIB)

/* What must come comes within this, however slow the machine. */
#define SOON_MS 30000

#define MAX_QUEUES 8
#define RING_NUM 128

#define FEATURES (1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_INDIRECT_DESC | 1ULL << VIRTIO_BLK_F_FLUSH)

/* A descriptor to be. */
struct seg {
	uint64_t address; /* of the guest */
	uint32_t length;
	bool writable; /* by the device */
};

struct ring {
	uint64_t address; /* of the descriptor table, in the guest */
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t next_desc, used_seen;
	int kick, call;
};

struct vm {
	int fd;
	uint8_t *memory; /* REGION_SIZE, a gap, REGION_SIZE */
	unsigned int queues;
	uint64_t features;
	uint8_t *log; /* a bit a page of guest addresses */
	struct ring ring[MAX_QUEUES];
};

/* Where the tests may work: set by the command line. */
extern const char *test_dir;   /* a directory on ext4 of its own */
/* Block devices whose content may be destroyed; cached has a volatile cache and no FUA. */
extern const char *test_block, *test_cached;
extern const char *test_slow;  /* one on which each request takes SLOW_MS */
#define SLOW_MS 100

__attribute__((noreturn, format(printf, 1, 2))) void fail(const char *fmt, ...);
#define CHECK(condition, ...)                 \
	do {                                  \
		if (!(condition))             \
			fail(__VA_ARGS__);    \
	} while (0)
#define EQUAL(got, want, what)                                                                                     \
	do {                                                                                                       \
		long long got_ = (long long)(got), want_ = (long long)(want);                                      \
		if (got_ != want_)                                                                                 \
			fail("%s:%d: %s is %lld (0x%llx), want %lld", __FILE__, __LINE__, what, got_, got_, want_); \
	} while (0)

/* The memory behind a guest address; the length must not reach across BORDER. */
void *guest(struct vm *vm, uint64_t address);
void guest_write(struct vm *vm, uint64_t address, const void *data, size_t length);
void guest_read(struct vm *vm, uint64_t address, void *data, size_t length);

/* An ioctl on the device: returns 0 or the error as a positive number. */
int vm_ioctl(struct vm *vm, unsigned long request, void *arg);
/* The same, which must succeed. */
void must_ioctl(struct vm *vm, unsigned long request, void *arg);

/* Opens the device with that many queues, owner set, memory table and rings in place, stopped. */
struct vm *vm_open(unsigned int queues, uint64_t features);
void vm_close(struct vm *vm);
void vm_set_memory(struct vm *vm);
void vm_set_features(struct vm *vm, uint64_t features);
int vm_configure(struct vm *vm, uint64_t capacity, uint64_t offset, uint32_t flags);
/* VHOST_BLK_SET_BACKEND; returns 0 or the error. */
int vm_backend(struct vm *vm, unsigned int queue, int fd);
struct vhost_blk_stats vm_stats(struct vm *vm, unsigned int queue);
/* A new eventfd that tells of VHOST_BLK_EVENT_*. */
int vm_event(struct vm *vm, uint32_t event);
/* Was it signalled within that time? Takes the signals that there are. */
bool event_came(int event, int timeout_ms);
/* VHOST_BLK_PAUSE; returns 0 or the error. */
int vm_pause(struct vm *vm, uint32_t queue, uint32_t paused);
/* Waits until so many requests or more are in flight, or held. */
void await_inflight(struct vm *vm, unsigned int queue, unsigned int count);
void await_held(struct vm *vm, unsigned int queue, unsigned int count);
/* VHOST_BLK_GET_HELD: returns how many are held; fills up to room entries. */
unsigned int vm_held(struct vm *vm, unsigned int queue, struct vhost_blk_held *entries, unsigned int room);
/* VHOST_GET_VRING_BASE: the next index of the available ring to be served. */
unsigned int vm_base(struct vm *vm, unsigned int queue);
void vm_log_start(struct vm *vm);
bool vm_logged(struct vm *vm, uint64_t address);
/* Lays the ring out anew and empty; only while it is stopped. */
void ring_reset(struct vm *vm, unsigned int queue);

/* Makes a chain available, directly or through an indirect table at that guest address; returns its head. */
unsigned int submit(struct vm *vm, unsigned int queue, const struct seg *segs, unsigned int count, uint64_t indirect);
void kick(struct vm *vm, unsigned int queue);
/* Waits for the next used element; false after timeout_ms. */
bool reap(struct vm *vm, unsigned int queue, struct vring_used_elem *used, int timeout_ms);
/* The same, which must come soon. */
struct vring_used_elem must_reap(struct vm *vm, unsigned int queue);

/*
 * One request by a plain three-part chain: header, data at that address, status. Returns the status byte, checks
 * used.len.
 */
int request(struct vm *vm, unsigned int queue, uint32_t type, uint64_t sector, uint64_t data, uint32_t length);
/* The same without waiting; slot (up to 255) tells apart the headers and status bytes of concurrent ones. */
unsigned int start_request(struct vm *vm, unsigned int queue, unsigned int slot, uint32_t type, uint64_t sector,
			   uint64_t data, uint32_t length);
uint64_t header_address(unsigned int queue, unsigned int slot);
uint64_t status_address(unsigned int queue, unsigned int slot);
void put_header(struct vm *vm, uint64_t address, uint32_t type, uint64_t sector);

/* An image file of that size in the test's directory, zeroed; open_flags as open(2). */
int make_image(const char *name, uint64_t size, int open_flags);
int open_image(const char *name, int open_flags);
/* Milliseconds of a clock that never goes back. */
long now_ms(void);
/* Bytes that tell where they belong. */
void pattern(uint8_t *data, size_t length, uint64_t seed);

struct backend {
	const char *name;
	bool block;
	int flags;
};
extern const struct backend backends[4];
/* Opens it, size bytes of zeroes. */
int backend_open(const struct backend *backend, uint64_t size);
/* What an outsider reads there, past the page cache if the backend is direct. */
void backend_read(const struct backend *backend, uint64_t position, void *data, size_t length);

struct test_case {
	const char *name;
	void (*run)(void);
};
extern const struct test_case coherent_cases[];
extern const struct test_case data_cases[], direct_cases[], layout_cases[], access_cases[], lifecycle_cases[],
	migration_cases[], control_cases[], worker_cases[], observe_cases[], hold_cases[];

#endif
