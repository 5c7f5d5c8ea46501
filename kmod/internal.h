/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vhost_blk: serves virtio-blk queues in the host kernel.
 *
 * Life of a request: the queue's worker fetches a descriptor chain (queue.c), makes a request of it (request.c) and
 * submits it without ever blocking on storage (io.c). Whoever finishes it, in whatever context, puts it on the
 * queue's done list. The worker, or a drain, then reaps that list in the guest's address space: status byte, dirty
 * log, used ring, signal. What failed may be held instead (hold.c): it waits, unanswered, for the VMM's word.
 *
 * Locks, outer to inner:
 *   vhost_blk.mutex        ioctls, one at a time
 *   vhost_dev.mutex        what the vhost core asks its callers to hold
 *   vhost_virtqueue.mutex  the ring, and all of struct vhost_blk_queue but the done list
 *   vhost_blk.event_lock   the eventfds that tell of drained queues and held requests
 * vhost_blk.queues_lock is outside of vhost_virtqueue.mutex and stands apart from the two above: it keeps the queues in
 * place for who must not wait for an ioctl that drains a slow disk (pause, counters, the list of held requests).
 */
#ifndef VHOST_BLK_INTERNAL_H
#define VHOST_BLK_INTERNAL_H

#include <linux/bio.h>
#include <linux/rwsem.h>
#include <linux/virtio_blk.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "uapi/vhost_blk.h"

#define VHOST_BLK_EVENTS 2

/* Enough for most requests of 4 to 32 KiB; longer ones allocate. */
#define VHOST_BLK_INLINE_SEGMENTS 8
#define VHOST_BLK_INLINE_VECS 8

/* The open file behind a queue. Set and put only while the queue has nothing in flight. */
struct vhost_blk_backend {
	struct file *file;
	struct block_device *bdev;	/* set if it is served by bios of ours: a block device opened with O_DIRECT */
	loff_t size;
	bool direct;		/* opened with O_DIRECT */
	unsigned int memory_mask;	/* direct: what buffer addresses must be aligned to, less one */
	unsigned int block_mask;	/* the same for offsets and lengths; on a block device, of ranges in any case */
};

struct vhost_blk_queue;

/* A part of a request on a block device. Its vectors hold pins on the guest's pages, one for each page they touch. */
struct vhost_blk_bio {
	struct vhost_blk_bio *next;
	struct bio bio;
};

struct vhost_blk_request {
	struct vhost_blk_request *next;
	struct llist_node done_node;	/* on the queue's done list, or on that of bios to be submitted again */
	struct vhost_blk_request *next_free;	/* in the free list, or in that of held ones */
	struct vhost_blk_queue *queue;

	u32 type;		/* VIRTIO_BLK_T_*; U32_MAX without a readable header */
	unsigned int head;
	u8 status;		/* VIRTIO_BLK_S_* once it is done */
	int error;		/* what the storage said, once it is done: 0 or a negative errno */
	unsigned int punts;
	u64 start_ns;		/* when it was fetched */
	bool durable;		/* on stable storage before it completes */
	bool bounce;		/* the guest's buffers do not suit O_DIRECT */
	loff_t position;	/* in the backend */
	size_t length;		/* of the data, bytes */
	size_t transferred;
	size_t writable;	/* bytes of the chain that the device may write, without the status byte */

	u8 __user *status_address;	/* NULL if the chain has no room for it */
	struct iovec *segments;	/* a copy: the ring reuses its own before a punted request reads them */
	unsigned int segment_count;
	struct iovec inline_segments[VHOST_BLK_INLINE_SEGMENTS];
	struct virtio_blk_discard_write_zeroes *ranges;
	unsigned int range_count;

	struct vhost_log *log;	/* what the chain lets us write, guest addresses; with VHOST_F_LOG_ALL only */
	unsigned int log_count;

	/* By bios of ours (bio.c) */
	struct vhost_blk_bio *bios;	/* NULL if the request goes by the file */
	unsigned int bio_count;
	atomic_t bios_pending;
	blk_status_t bio_status;	/* of one that failed */
	bool bio_nowait;
	struct vhost_blk_bio inline_bio;
	struct bio_vec inline_vecs[VHOST_BLK_INLINE_VECS];

	/* By the file (io.c) */
	struct kiocb iocb;
	struct delayed_work work;
};

struct vhost_blk_queue {
	struct vhost_virtqueue vq;	/* vq.private_data is the backend's file while the queue runs */
	struct vhost_blk *blk;
	unsigned int index;
	struct vhost_blk_backend backend;
	struct vhost_blk_config config;
	bool draining;		/* an ioctl waits for what is in flight: fetches nothing */
	bool paused;		/* the VMM wants nothing fetched */
	bool starved;		/* stopped fetching for want of a free request */

	struct vhost_blk_request *requests;	/* all, by next; made as they are needed, up to vq.num */
	unsigned int request_count;
	struct vhost_blk_request *free;
	unsigned int inflight;	/* fetched and neither answered nor held */
	u64 poll_end;		/* busy polling: when to give up, by vhost_blk_clock(); 0 while it does not poll */
	bool busy;		/* the worker is at it and will look at the done list before it goes */

	/* Bios that would have blocked the worker. */
	struct llist_head resubmit;
	struct work_struct resubmit_work;
	sector_t next_sector;	/* where the last bio ended: one that begins there may merge with it */

	/* In the order in which they failed. Those of a stopped queue are but for show: see vhost_blk_queue_stop(). */
	struct vhost_blk_request *held_list, **held_tail;
	unsigned int held;

	/*
	 * Filled in any context, without a lock. A completion still touches the queue after its request may have been
	 * reaped: it does so under rcu_read_lock(), and release waits a grace period before it frees the queue.
	 */
	struct llist_head done;
	struct vhost_work done_work;
	wait_queue_head_t drain_wait;

	/* Counted under vq.mutex, read without. */
	u64 reads, writes, flushes, others, errors, read_bytes, write_bytes;
	u64 discards, write_zeroes, discard_bytes, punted, bounced;
	struct {
		u64 sum_ns;
		u64 buckets[VHOST_BLK_LATENCY_BUCKETS];
	} latency[VHOST_BLK_LATENCY_TYPES];
};

struct vhost_blk {
	struct vhost_dev dev;
	struct mutex mutex;	/* ioctls, one at a time */
	struct rw_semaphore queues_lock;
	struct vhost_virtqueue **vqs;
	struct vhost_blk_queue **queues;
	unsigned int queue_count;
	struct vhost_blk_config config;
	atomic_t held;		/* by running queues; they are frozen while it is not zero */
	spinlock_t event_lock;	/* of events */
	struct eventfd_ctx *events[VHOST_BLK_EVENTS];	/* by VHOST_BLK_EVENT_*; NULL: nobody asks */
	unsigned int id;	/* tells descriptors apart */
	struct dentry *debugfs;	/* made and removed under mutex */
	struct workqueue_struct *workqueue;	/* for what may block on storage */
	struct pid *owner;	/* the process whose I/O cgroup pays for work that is not done by a thread of its own */
	bool dying;		/* set at release: nobody waits for an answer any more */
};

static inline struct vhost_blk_queue *to_queue(struct vhost_virtqueue *vq)
{
	return container_of(vq, struct vhost_blk_queue, vq);
}

static inline bool vhost_blk_frozen(struct vhost_blk *blk)
{
	return atomic_read(&blk->held);
}

static inline bool vhost_blk_is_write(const struct vhost_blk_request *request)
{
	return request->type == VIRTIO_BLK_T_OUT;
}

/* backend.c */
int vhost_blk_backend_open(struct vhost_blk_backend *backend, int fd);
int vhost_blk_backend_check(const struct vhost_blk_backend *backend, const struct vhost_blk_config *config);
void vhost_blk_backend_put(struct vhost_blk_backend *backend);

/* device.c */
struct vhost_blk_queue *vhost_blk_get_queue(struct vhost_blk *blk, u32 index);

/* event.c */
void vhost_blk_signal(struct vhost_blk *blk, u32 event);
long vhost_blk_set_event(struct vhost_blk *blk, const void __user *argp);
void vhost_blk_put_events(struct vhost_blk *blk);

/* stop.c */
int vhost_blk_queue_start(struct vhost_blk_queue *queue, struct vhost_blk_backend *backend);
int vhost_blk_queue_stop(struct vhost_blk_queue *queue);
int vhost_blk_queue_replace(struct vhost_blk_queue *queue, struct vhost_blk_backend *backend);
void vhost_blk_queue_kill(struct vhost_blk_queue *queue);
int vhost_blk_drain_all(struct vhost_blk *blk);
void vhost_blk_resume_all(struct vhost_blk *blk);
long vhost_blk_pause(struct vhost_blk *blk, const void __user *argp);

/* hold.c */
bool vhost_blk_hold(struct vhost_blk_request *request);
void vhost_blk_disown_held(struct vhost_blk_queue *queue);
void vhost_blk_forget_held(struct vhost_blk_queue *queue);
long vhost_blk_get_held(struct vhost_blk *blk, void __user *argp);
long vhost_blk_release_held(struct vhost_blk *blk, const void __user *argp);

/* stats.c */
void vhost_blk_count(struct vhost_blk_request *request, u64 now);
struct vhost_blk_stats vhost_blk_queue_stats(struct vhost_blk_queue *queue);
long vhost_blk_get_stats(struct vhost_blk *blk, void __user *argp);
long vhost_blk_get_latency(struct vhost_blk *blk, void __user *argp);
void vhost_blk_show_fdinfo(struct seq_file *m, struct file *file);

/* debugfs.c */
void vhost_blk_debugfs_init(void);
void vhost_blk_debugfs_exit(void);
void vhost_blk_debugfs_add(struct vhost_blk *blk);
void vhost_blk_debugfs_remove(struct vhost_blk *blk);

/* queue.c */
struct vhost_blk_queue *vhost_blk_queue_alloc(struct vhost_blk *blk, unsigned int index);
struct vhost_blk_request *vhost_blk_alloc_request(struct vhost_blk_queue *queue);
void vhost_blk_add_request(struct vhost_blk_queue *queue, struct vhost_blk_request *request);
void vhost_blk_free_requests(struct vhost_blk_queue *queue);
void vhost_blk_reap(struct vhost_blk_queue *queue, bool answer);
void vhost_blk_complete(struct vhost_blk_request *request, int error);
void vhost_blk_complete_here(struct vhost_blk_request *request, int error);
void vhost_blk_answer_here(struct vhost_blk_request *request, u8 status);

/* chain.c */
int vhost_blk_get_chain(struct vhost_virtqueue *vq, unsigned int *out, unsigned int *in);

/* request.c */
void vhost_blk_request_start(struct vhost_blk_request *request, unsigned int out, unsigned int in,
			     unsigned int log_count);
u32 vhost_blk_request_finish(struct vhost_blk_request *request);
void vhost_blk_request_log(struct vhost_blk_request *request);
void vhost_blk_request_retry(struct vhost_blk_request *request);
void vhost_blk_request_release(struct vhost_blk_request *request);

/* bio.c */
bool vhost_blk_bio_transfer(struct vhost_blk_request *request, const struct iovec *iov, unsigned int count,
			    size_t skip);
bool vhost_blk_bio_flush(struct vhost_blk_request *request);
void vhost_blk_bio_punt(struct vhost_blk_request *request);
void vhost_blk_bio_resubmit(struct work_struct *work);
void vhost_blk_bio_release(struct vhost_blk_request *request);

/* cgroup.c */
void vhost_blk_charge(struct vhost_blk *blk);
void vhost_blk_uncharge(void);

/* io.c */
void vhost_blk_io_setup(void);
void vhost_blk_io_init(struct vhost_blk_request *request);
void vhost_blk_io_submit(struct vhost_blk_request *request);
void vhost_blk_io_punt(struct vhost_blk_request *request, unsigned long delay);
void vhost_blk_io_flush(struct vhost_blk_request *request);

#endif
