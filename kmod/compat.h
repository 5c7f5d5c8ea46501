/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Every difference between kernels, so that the rest reads as if written for the newest. Keyed on what is there
 * (HAVE_*, ARGC_* from the generated header), not on version numbers: stable kernels carry backports.
 */
#ifndef VHOST_BLK_COMPAT_H
#define VHOST_BLK_COMPAT_H

#include <linux/blkdev.h>
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/irqbypass.h>
#include <linux/llist.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/uio.h>
#include <linux/vhost.h>
#include <linux/vhost_iotlb.h>
#include <linux/virtio_byteorder.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#ifdef VHOST_BLK_KSRC
#include <vhost.h>
/* A source tree tells its version only; these are mainline's. */
#include <linux/version.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
#define HAVE_vhost_vq_work_queue 1
#define HAVE_vhost_vq_has_work 1
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#define HAVE_vhost_worker_ioctl 1
#endif
#else
#include "vhost_gen.h"

/* In the headers of the vhost clients, not in BTF: what every one of them offers. */
#define VHOST_FEATURES                                                                                          \
	((1ULL << VIRTIO_F_NOTIFY_ON_EMPTY) | (1ULL << VIRTIO_RING_F_INDIRECT_DESC) |                           \
	 (1ULL << VIRTIO_RING_F_EVENT_IDX) | (1ULL << VHOST_F_LOG_ALL) | (1ULL << VIRTIO_F_ANY_LAYOUT) |        \
	 (1ULL << VIRTIO_F_VERSION_1))

static inline bool vhost_has_feature(struct vhost_virtqueue *vq, int bit)
{
	return vq->acked_features & (1ULL << bit);
}
#endif

/* 6.8 dropped the count, and made eventfd_signal() an inline around eventfd_signal_mask(). */
static inline void vhost_blk_eventfd_signal(struct eventfd_ctx *eventfd)
{
#if defined(HAVE_eventfd_signal) && ARGC_eventfd_signal == 2
	eventfd_signal(eventfd, 1);
#else
	eventfd_signal(eventfd);
#endif
}

static inline void vhost_blk_signal_error(struct vhost_virtqueue *vq)
{
	if (vq->error_ctx)
		vhost_blk_eventfd_signal(vq->error_ctx);
}

/* Since 6.5 work goes to the queue's own worker. False if that has been killed. */
static inline bool vhost_blk_queue_work(struct vhost_virtqueue *vq, struct vhost_work *work)
{
#ifdef HAVE_vhost_vq_work_queue
	return vhost_vq_work_queue(vq, work);
#else
	vhost_work_queue(vq->dev, work);
	return true;
#endif
}

/* Can it take a buffered write without waiting? 6.10 moved the flag. */
static inline bool vhost_blk_buffers_nowait(const struct file *file)
{
#ifdef FOP_BUFFER_WASYNC
	return file->f_op->fop_flags & FOP_BUFFER_WASYNC;
#else
	return file->f_mode & FMODE_BUF_WASYNC;
#endif
}

/* Does something else wait for the queue's worker? */
static inline bool vhost_blk_has_work(struct vhost_virtqueue *vq)
{
#ifdef HAVE_vhost_vq_has_work
	return vhost_vq_has_work(vq);
#else
	return vhost_has_work(vq->dev);
#endif
}

/* 6.19 added the number of descriptors for in-order rings. */
static inline int vhost_blk_add_used_n(struct vhost_virtqueue *vq, struct vring_used_elem *heads, unsigned int count)
{
#if defined(ARGC_vhost_add_used_n) && ARGC_vhost_add_used_n == 4
	return vhost_add_used_n(vq, heads, NULL, count);
#else
	return vhost_add_used_n(vq, heads, count);
#endif
}

#ifndef ITER_DEST
#define ITER_SOURCE WRITE
#define ITER_DEST READ
#endif

#endif
