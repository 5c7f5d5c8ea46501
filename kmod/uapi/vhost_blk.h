/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The user-space ABI of /dev/vhost-blk.
 *
 * A VMM opens the device, optionally sets the number of queues, takes ownership (VHOST_SET_OWNER), and then drives it
 * with the generic vhost ioctls of <linux/vhost.h> and the ones below. A descriptor serves one disk, or one queue of
 * it: both layouts are allowed.
 *
 * All structures have the same size and layout for 32-bit and 64-bit user space; reserved fields must be zero on the
 * way in and are zero on the way out.
 */
#ifndef _UAPI_VHOST_BLK_H
#define _UAPI_VHOST_BLK_H

#include <linux/types.h>
#include <linux/vhost.h>

/* Raised when user space must tell the difference; additions that an old user may ignore do not raise it. */
#define VHOST_BLK_ABI_VERSION 2

#define VHOST_BLK_MAX_QUEUES 64

/* Length of the identity that VIRTIO_BLK_T_GET_ID answers; not terminated when it is full (virtio 1.3, 5.2.6). */
#define VHOST_BLK_SERIAL_LEN 20

/*
 * Binds a queue to the open file that backs it, or stops it (fd -1): then every request that the queue had taken is
 * completed before the ioctl returns, and VHOST_GET_VRING_BASE gives the next index to be served. Held requests are
 * not waited for: see VHOST_BLK_GET_HELD. A pause of the queue ends when it is stopped. On a running queue, another
 * file replaces the old one between two requests; EBUSY while some of the queue's are held. The number and structure
 * are those of the 2024 RFC.
 */
#define VHOST_BLK_SET_BACKEND _IOW(VHOST_VIRTIO, 0x50, struct vhost_vring_file)

struct vhost_blk_info {
	__u32 abi_version; /* VHOST_BLK_ABI_VERSION of the module */
	__u32 max_queues;  /* most queues on one descriptor */
	__u64 reserved[6];
};

#define VHOST_BLK_GET_INFO _IOR(VHOST_VIRTIO, 0x51, struct vhost_blk_info)

/* Number of queues of this descriptor, 1 to max_queues; 1 unless set. Only before VHOST_SET_OWNER (else EBUSY). */
#define VHOST_BLK_SET_QUEUES _IOW(VHOST_VIRTIO, 0x52, __u32)

/* Writes, discards and write-zeroes of the guest fail with VIRTIO_BLK_S_IOERR. */
#define VHOST_BLK_CONFIG_READ_ONLY (1u << 0)
/*
 * The write cache is off, or the guest cannot flush: a write is on stable storage before it completes
 * (virtio 1.3, 5.2.6.2). A device without VIRTIO_BLK_F_FLUSH negotiated behaves so whatever this flag says.
 */
#define VHOST_BLK_CONFIG_WRITETHROUGH (1u << 1)

/* The host was told to ignore flushes: FLUSH succeeds at once, and no write is forced to stable storage. */
#define VHOST_BLK_CONFIG_NO_FLUSH (1u << 2)
/* DISCARD succeeds and does nothing; the unmap flag of WRITE_ZEROES is ignored. */
#define VHOST_BLK_CONFIG_NO_UNMAP (1u << 3)
/*
 * Error policy: what the storage fails is held instead of answered: a read; a write, flush, discard or write-zeroes
 * with any error; the same with ENOSPC only. What the guest asked wrongly (range, layout, a disk that is read-only,
 * memory that it doesn't have) and what the backend does not support (EOPNOTSUPP) are answered whatever the policy.
 */
#define VHOST_BLK_CONFIG_HOLD_READ (1u << 4)
#define VHOST_BLK_CONFIG_HOLD_WRITE (1u << 5)
#define VHOST_BLK_CONFIG_HOLD_ENOSPC (1u << 6)

/*
 * What the device presents. May be set again at any time; a running queue takes it up for the requests that it fetches
 * after the ioctl has returned, the error policy for those that fail after it.
 */
struct vhost_blk_config {
	__u32 flags;     /* VHOST_BLK_CONFIG_* */
	__u32 reserved0;
	__u64 capacity;  /* bytes, a multiple of 512; no more than the backend has */
	__u64 offset;    /* where the disk begins in the backend, bytes, a multiple of 512 */
	__u8 serial[VHOST_BLK_SERIAL_LEN]; /* padded with zeroes */
	__u32 reserved[9];
};

#define VHOST_BLK_SET_CONFIG _IOW(VHOST_VIRTIO, 0x53, struct vhost_blk_config)

/*
 * Counters since open, of one queue. Requests are counted when they are answered, whatever their status. Asked for at
 * any time: an ioctl of another thread that waits for storage does not delay the answer.
 */
struct vhost_blk_stats {
	__u32 queue;     /* in: which queue */
	__u32 running;   /* 1: a backend is bound */
	__u64 inflight;  /* fetched and not answered, held ones included */
	__u64 reads;
	__u64 writes;
	__u64 flushes;
	__u64 others;    /* GET_ID, discards, write-zeroes and what the device does not support */
	__u64 errors;    /* of all the above, those that did not end in VIRTIO_BLK_S_OK */
	__u64 read_bytes;
	__u64 write_bytes;
	__u32 paused;    /* 1: by VHOST_BLK_PAUSE */
	__u32 frozen;    /* 1: the descriptor's queues fetch nothing because requests are held */
	__u64 held;      /* held now, or listed after a stop */
	__u64 discards;      /* of others */
	__u64 write_zeroes;  /* of others */
	__u64 discard_bytes; /* of discards that succeeded */
	__u64 punted;        /* times that a request was passed on to where it may wait for storage */
	__u64 bounced;       /* requests through a buffer of the host's, for the alignment that O_DIRECT asks for */
};

#define VHOST_BLK_GET_STATS _IOWR(VHOST_VIRTIO, 0x54, struct vhost_blk_stats)

/* Events, each told by an eventfd of the caller's; fd -1 for none. EBADF, EINVAL: not an eventfd. */
#define VHOST_BLK_EVENT_DRAINED 0 /* a paused queue has nothing in flight but held requests: see VHOST_BLK_PAUSE */
#define VHOST_BLK_EVENT_HELD 1    /* a request has been held */

struct vhost_blk_event {
	__u32 event; /* VHOST_BLK_EVENT_* */
	__s32 fd;
};

#define VHOST_BLK_SET_EVENT _IOW(VHOST_VIRTIO, 0x55, struct vhost_blk_event)

#define VHOST_BLK_ALL_QUEUES (~0u)

/*
 * A stop that does not wait: with paused 1 the queue fetches nothing more once the ioctl has returned, and the DRAINED
 * event is signalled as soon as it has nothing in flight but held requests (at once if that is so already; again after
 * held requests that were released have ended). VHOST_BLK_SET_BACKEND with fd -1 then returns without waiting. With
 * paused 0 the queue goes on. A pause ends with that or with a stop. Neither waits for storage nor for an ioctl of
 * another thread.
 *
 * The event is signalled for each queue, and one read of the eventfd may stand for several: which of them have drained
 * is told by VHOST_BLK_GET_STATS (inflight == held).
 */
struct vhost_blk_pause {
	__u32 queue;  /* or VHOST_BLK_ALL_QUEUES */
	__u32 paused; /* 1 or 0 */
};

#define VHOST_BLK_PAUSE _IOW(VHOST_VIRTIO, 0x56, struct vhost_blk_pause)

/*
 * A request that fails under an error policy (VHOST_BLK_CONFIG_HOLD_*) is not answered: it stays with its queue, and
 * no queue of the descriptor fetches any more ("frozen") until VHOST_BLK_RELEASE_HELD. The HELD event is signalled for
 * each one. The others in flight end as they would, and may be held too.
 *
 * While a running queue holds requests, VHOST_SET_MEM_TABLE and a change of VHOST_F_LOG_ALL return EBUSY: their
 * buffers are known by the addresses of the old table. Stopping a queue that holds requests leaves them to the VMM:
 * they stay listed, until the queue is bound again (or VHOST_RESET_OWNER, or the descriptor is closed), but the kernel
 * will not touch them. They are in the available ring before the index that VHOST_GET_VRING_BASE gives, and not in the
 * used ring. Their pages are in the dirty log.
 */
struct vhost_blk_held {
	__u32 head;     /* of the descriptor chain */
	__u32 type;     /* VIRTIO_BLK_T_* */
	__s32 error;    /* errno, positive */
	__u32 reserved;
};

struct vhost_blk_held_list {
	__u32 queue;   /* in */
	__u32 count;   /* in: room, in entries; out: number held, which may be more than there was room for */
	__u64 entries; /* in: address of an array of struct vhost_blk_held; filled in the order in which they failed */
	__u64 reserved[2];
};

/* Neither waits for storage nor for an ioctl of another thread. */
#define VHOST_BLK_GET_HELD _IOWR(VHOST_VIRTIO, 0x57, struct vhost_blk_held_list)

/*
 * Ends the hold on all requests of the descriptor's running queues, and fetching goes on. RETRY executes them again
 * from the start, and they may be held again; FAIL answers them with VIRTIO_BLK_S_IOERR. Nothing to do if none is
 * held.
 */
#define VHOST_BLK_HELD_RETRY 0
#define VHOST_BLK_HELD_FAIL 1

#define VHOST_BLK_RELEASE_HELD _IOW(VHOST_VIRTIO, 0x58, __u32)

/*
 * How long requests took since open, from being fetched to being answered (the time that they were held included), in
 * nanoseconds. Buckets are four to a power of two: bucket 0 counts what took less than 1024 ns; bucket 1 + 4 * e + m,
 * for e from 0 to 24 and m from 0 to 3, from (4 + m) << (8 + e) ns to just below (5 + m) << (8 + e) ns; the last one
 * 2^35 ns (34 s) and more. The clock is read once for each batch of requests fetched or answered.
 */
#define VHOST_BLK_LATENCY_READ 0
#define VHOST_BLK_LATENCY_WRITE 1
#define VHOST_BLK_LATENCY_FLUSH 2
#define VHOST_BLK_LATENCY_OTHER 3
#define VHOST_BLK_LATENCY_TYPES 4
#define VHOST_BLK_LATENCY_BUCKETS 102

struct vhost_blk_latency {
	__u32 queue;  /* in */
	__u32 type;   /* in: VHOST_BLK_LATENCY_* */
	__u64 sum_ns; /* of all requests */
	__u64 buckets[VHOST_BLK_LATENCY_BUCKETS];
};

/* Neither waits for storage nor for an ioctl of another thread. */
#define VHOST_BLK_GET_LATENCY _IOWR(VHOST_VIRTIO, 0x59, struct vhost_blk_latency)

/*
 * The same figures are readable by whoever may inspect the VMM, in /proc/<pid>/fdinfo/<fd>, summed over the
 * descriptor's queues, one "name:<tab>value" a line:
 *
 *   vhost-blk-abi, vhost-blk-queues, vhost-blk-running (queues with a backend), vhost-blk-paused (queues),
 *   vhost-blk-frozen (0 or 1), vhost-blk-inflight, vhost-blk-held, vhost-blk-reads, vhost-blk-writes,
 *   vhost-blk-flushes, vhost-blk-others, vhost-blk-errors, vhost-blk-read-bytes, vhost-blk-write-bytes,
 *   vhost-blk-discards, vhost-blk-write-zeroes, vhost-blk-discard-bytes, vhost-blk-punted, vhost-blk-bounced,
 *   vhost-blk-serial (the serial, non-printable bytes escaped as \ooo)
 *
 * And by root, each queue for itself, with its latencies, in debugfs: vhost-blk/<pid>-<n>/queue<i>, where <pid> opened
 * the device and <n> tells its descriptors apart.
 */

#endif
