/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The user-space ABI of /dev/vhost-blk.
 *
 * A VMM opens the device, optionally sets the number of queues, takes ownership (VHOST_SET_OWNER), and then drives it
 * with the generic vhost ioctls of <linux/vhost.h> and the ones below. A descriptor serves one disk, or one queue of
 * it: both layouts are allowed.
 *
 * All structures have the same size and layout for 32-bit and 64-bit user space; reserved fields must be zero on the way in
 * and are zero on the way out.
 */
#ifndef _UAPI_VHOST_BLK_H
#define _UAPI_VHOST_BLK_H

#include <linux/types.h>
#include <linux/vhost.h>

/* Raised when user space must tell the difference; additions that an old user may ignore do not raise it. */
#define VHOST_BLK_ABI_VERSION 1

#define VHOST_BLK_MAX_QUEUES 64

/* Length of the identity that VIRTIO_BLK_T_GET_ID answers; not terminated when it is full (virtio 1.3, 5.2.6). */
#define VHOST_BLK_SERIAL_LEN 20

/*
 * Binds a queue to the open file that backs it, or stops it (fd -1): then every request that the queue had taken is completed
 * before the ioctl returns, and VHOST_GET_VRING_BASE gives the next index to be served.
 * The number and structure are those of the 2024 RFC.
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

/*
 * What the device presents. May be set again at any time; a running queue takes it up for the requests that it fetches
 * after the ioctl has returned.
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

/* Counters since open, of one queue. Requests are counted when they complete, whatever their status. */
struct vhost_blk_stats {
	__u32 queue;     /* in: which queue */
	__u32 running;   /* 1: a backend is bound */
	__u64 inflight;  /* fetched and not completed */
	__u64 reads;
	__u64 writes;
	__u64 flushes;
	__u64 others;    /* GET_ID, discards, write-zeroes and what the device does not support */
	__u64 errors;    /* of all the above, those that did not end in VIRTIO_BLK_S_OK */
	__u64 read_bytes;
	__u64 write_bytes;
	__u64 reserved[7];
};

#define VHOST_BLK_GET_STATS _IOWR(VHOST_VIRTIO, 0x54, struct vhost_blk_stats)

/*
 * The same figures are readable by whoever may inspect the VMM, in /proc/<pid>/fdinfo/<fd>, summed over the descriptor's
 * queues, one "name:<tab>value" a line:
 *
 *   vhost-blk-abi, vhost-blk-queues, vhost-blk-running (queues with a backend), vhost-blk-inflight, vhost-blk-reads,
 *   vhost-blk-writes, vhost-blk-flushes, vhost-blk-others, vhost-blk-errors, vhost-blk-read-bytes,
 *   vhost-blk-write-bytes, vhost-blk-serial (the serial, non-printable bytes escaped as \ooo)
 */

#endif
