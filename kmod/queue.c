// SPDX-License-Identifier: GPL-2.0-only
/* One virtqueue: fetching and reaping. */
#include <linux/ktime.h>
#include <linux/sched/clock.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "internal.h"
#include "trace.h"

/* Used elements are published in batches of this many. */
#define VHOST_BLK_REAP_BATCH 32
#define VHOST_BLK_TAG_BATCH 8
/* How long busy polling keeps the queue's mutex, ns. */
#define VHOST_BLK_POLL_SLICE (100 * NSEC_PER_USEC)

static void vhost_blk_free_request(struct vhost_blk_request *request)
{
	struct vhost_blk_queue *queue = request->queue;

	vhost_blk_request_release(request);
	request->next_free = queue->free;
	queue->free = request;
	WRITE_ONCE(queue->inflight, queue->inflight - 1);
}

/* NULL without memory. */
struct vhost_blk_request *vhost_blk_alloc_request(struct vhost_blk_queue *queue)
{
	struct vhost_blk_request *request = kzalloc(sizeof(*request), GFP_KERNEL_ACCOUNT);

	if (!request)
		return NULL;
	request->queue = queue;
	vhost_blk_io_init(request);
	return request;
}

/* Gives the queue one more. Under vq->mutex. */
void vhost_blk_add_request(struct vhost_blk_queue *queue, struct vhost_blk_request *request)
{
	request->next = queue->requests;
	queue->requests = request;
	queue->request_count++;
	request->next_free = queue->free;
	queue->free = request;
}

/*
 * A free request, which stays in the free list; there is one for each entry of the ring, but a disk that is never so
 * busy shall not cost so much memory. NULL: wait for one in flight to end. The first is there from the start.
 */
static struct vhost_blk_request *vhost_blk_peek_free(struct vhost_blk_queue *queue)
{
	struct vhost_blk_request *request;

	if (likely(queue->free))
		return queue->free;
	if (queue->request_count >= queue->vq.num)
		return NULL;
	request = vhost_blk_alloc_request(queue);
	if (request)
		vhost_blk_add_request(queue, request);
	return request;
}

static void vhost_blk_publish(struct vhost_virtqueue *vq, struct vring_used_elem *used, unsigned int count)
{
	if (count && vhost_blk_add_used_n(vq, used, count))
		vhost_blk_signal_error(vq);
}

/*
 * Answers what is done. Under vq->mutex. With answer false nothing of the guest is touched: its address space is not
 * that of the caller, and nobody is left to read the answers.
 */
void vhost_blk_reap(struct vhost_blk_queue *queue, bool answer)
{
	struct vhost_virtqueue *vq = &queue->vq;
	struct llist_node *list;
	struct vring_used_elem *used = vq->heads;	/* the core's, for the likes of us: UIO_MAXIOV of them */
	struct vhost_blk_request *request, *next;
	unsigned int count = 0;
	u64 now;

	if (llist_empty(&queue->done))
		return;
	now = ktime_get_ns();
	list = llist_reverse_order(llist_del_all(&queue->done));
	llist_for_each_entry_safe(request, next, list, done_node) {
		trace_vhost_blk_done(request, now);
		if (answer) {
			if (unlikely(request->error) && vhost_blk_hold(request))
				continue;
			used[count].id = (__force __virtio32)__cpu_to_virtio32(vq->is_le, request->head);
			used[count].len = __cpu_to_virtio32(vq->is_le, vhost_blk_request_finish(request));
			vhost_blk_count(request, now);
			if (++count == VHOST_BLK_REAP_BATCH) {
				vhost_blk_publish(vq, used, count);
				count = 0;
			}
		}
		vhost_blk_free_request(request);
	}
	if (answer) {
		vhost_blk_publish(vq, used, count);
		vhost_signal(vq->dev, vq);
	}
	if (queue->starved) {
		queue->starved = false;
		vhost_poll_queue(&vq->poll);
	}
	if (!queue->inflight) {
		if (queue->paused)
			vhost_blk_signal(queue->blk, VHOST_BLK_EVENT_DRAINED);
		if (wq_has_sleeper(&queue->drain_wait))
			wake_up(&queue->drain_wait);
	}
}

/* What the storage said, 0 or a negative errno, and what the guest is told of it. */
static void vhost_blk_set_result(struct vhost_blk_request *request, int error)
{
	request->error = error;
	request->status = !error ? VIRTIO_BLK_S_OK : error == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

/* Ends, from within the fetch loop, a request that needs no storage, or is wrong. */
void vhost_blk_answer_here(struct vhost_blk_request *request, u8 status)
{
	request->error = 0;
	request->status = status;
	llist_add(&request->done_node, &request->queue->done);
}

/* Ends a request from within the fetch loop, which reaps at its end; saves the wake-up. */
void vhost_blk_complete_here(struct vhost_blk_request *request, int error)
{
	vhost_blk_set_result(request, error);
	llist_add(&request->done_node, &request->queue->done);
}

/*
 * Ends a request with 0 or the storage's error, in any context, interrupts included. EFAULT is for memory that the
 * guest does not have.
 */
void vhost_blk_complete(struct vhost_blk_request *request, int error)
{
	struct vhost_blk_queue *queue = request->queue;

	vhost_blk_set_result(request, error);
	/*
	 * From llist_add() on the request is another's, and the queue is ours until the end of the RCU section only.
	 */
	rcu_read_lock();
	if (llist_add(&request->done_node, &queue->done)) {
		/*
		 * llist_add() is a full barrier: either the worker, when it has done with being busy, finds this on the
		 * list, or we see that it has.
		 */
		if (!READ_ONCE(queue->busy))
			vhost_blk_queue_work(&queue->vq, &queue->done_work);
		/*
		 * A killed worker takes no work; release or a drain, if there is one waiting, reaps instead: a waiter
		 * looks at the list after it has joined the queue.
		 */
		if (waitqueue_active(&queue->drain_wait))
			wake_up(&queue->drain_wait);
	}
	rcu_read_unlock();
}

/* Takes what is available. True: all of it, and the guest has been told nothing of notifications yet: see the poll. */
static bool vhost_blk_fetch(struct vhost_blk_queue *queue)
{
	struct vhost_virtqueue *vq = &queue->vq;
	struct blk_plug plug;
	int fetched = 0, bytes = 0;
	bool poll = false;
	u64 now;

	if (!vq->private_data || queue->draining || queue->paused || vhost_blk_frozen(queue->blk))
		return false;

	now = ktime_get_ns();
	vhost_disable_notify(vq->dev, vq);
	blk_start_plug(&plug);
	do {
		struct vhost_blk_request *request = vhost_blk_peek_free(queue);
		unsigned int out, in, log_count = 0;
		int head;

		if (!request) {
			/* No memory; or more chains than the ring has room for: some head was made available twice. */
			queue->starved = true;
			break;
		}
		head = vhost_blk_get_chain(vq, &out, &in);
		if (head == -EAGAIN)
			head = vhost_get_vq_desc(vq, vq->iov, ARRAY_SIZE(vq->iov), &out, &in,
						 vhost_has_feature(vq, VHOST_F_LOG_ALL) ? vq->log : NULL, &log_count);
		/* A broken ring: the vhost core has told the VMM by the error eventfd. */
		if (head < 0)
			break;
		if (head == vq->num) {
			poll = vq->busyloop_timeout;
			if (poll)
				break;
			if (vhost_enable_notify(vq->dev, vq)) {
				vhost_disable_notify(vq->dev, vq);
				continue;
			}
			break;
		}
		/* The block layer takes its own requests by the batch, if a word of its bitmaps has as many. */
		if (fetched % VHOST_BLK_TAG_BATCH == 0)
			plug.nr_ios = clamp_t(u16, vq->avail_idx - vq->last_avail_idx + 1, 1, VHOST_BLK_TAG_BATCH);
		queue->free = request->next_free;
		WRITE_ONCE(queue->inflight, queue->inflight + 1);
		request->head = head;
		request->start_ns = now;
		/* Without VHOST_F_LOG_ALL the core leaves the count alone. */
		vhost_blk_request_start(request, out, in, log_count);
		bytes += min_t(size_t, request->length, SZ_16M);
	} while (!vhost_exceeds_weight(vq, ++fetched, bytes) && !vhost_blk_frozen(queue->blk));
	blk_finish_plug(&plug);
	return poll;
}

/* Nanoseconds, about; never zero. */
static u64 vhost_blk_clock(void)
{
	return local_clock() | 1;
}

/*
 * Busy polling: waits a while for the guest to make something available, and for the storage, without sleeping and
 * without the guest having to kick. Gives way to whatever else wants this worker or processor, and every now and then
 * to who wants the queue's mutex. True: there is something to fetch. False: the worker may go; a kick, which is then
 * asked for, or the next turn goes on.
 */
static bool vhost_blk_poll(struct vhost_blk_queue *queue)
{
	struct vhost_virtqueue *vq = &queue->vq;
	u64 now = vhost_blk_clock(), slice_end = now + VHOST_BLK_POLL_SLICE;

	if (!queue->poll_end)
		queue->poll_end = now + vq->busyloop_timeout * (u64)NSEC_PER_USEC;
	while (now < queue->poll_end && !need_resched() && !signal_pending(current) && !vhost_blk_has_work(vq)) {
		if (!llist_empty(&queue->done)) {
			vhost_blk_reap(queue, true);
			queue->poll_end = now + vq->busyloop_timeout * (u64)NSEC_PER_USEC;
		}
		if (!vhost_vq_avail_empty(vq->dev, vq)) {
			queue->poll_end = 0;
			return true;
		}
		if (now >= slice_end) {
			vhost_poll_queue(&vq->poll);
			return false;
		}
		cpu_relax();
		now = vhost_blk_clock();
	}
	queue->poll_end = 0;
	if (!vhost_enable_notify(vq->dev, vq))
		return false;
	vhost_disable_notify(vq->dev, vq);
	return true;
}

/* Under vq->mutex: from here until vhost_blk_end_busy() completions need not wake the worker. */
static void vhost_blk_begin_busy(struct vhost_blk_queue *queue)
{
	WRITE_ONCE(queue->busy, true);
}

static void vhost_blk_end_busy(struct vhost_blk_queue *queue)
{
	WRITE_ONCE(queue->busy, false);
	/* Pairs with llist_add() in vhost_blk_complete(). */
	smp_mb();
	vhost_blk_reap(queue, true);
}

static void vhost_blk_handle_kick(struct vhost_work *work)
{
	struct vhost_virtqueue *vq = container_of(work, struct vhost_virtqueue, poll.work);
	struct vhost_blk_queue *queue = to_queue(vq);

	mutex_lock(&vq->mutex);
	vhost_blk_begin_busy(queue);
	while (vhost_blk_fetch(queue)) {
		vhost_blk_reap(queue, true);
		if (!vhost_blk_poll(queue))
			break;
	}
	vhost_blk_end_busy(queue);
	mutex_unlock(&vq->mutex);
}

static void vhost_blk_handle_done(struct vhost_work *work)
{
	struct vhost_blk_queue *queue = container_of(work, struct vhost_blk_queue, done_work);

	mutex_lock(&queue->vq.mutex);
	vhost_blk_reap(queue, true);
	mutex_unlock(&queue->vq.mutex);
}

struct vhost_blk_queue *vhost_blk_queue_alloc(struct vhost_blk *blk, unsigned int index)
{
	struct vhost_blk_queue *queue = kvzalloc(sizeof(*queue), GFP_KERNEL_ACCOUNT);

	if (!queue)
		return NULL;
	queue->blk = blk;
	queue->index = index;
	queue->vq.handle_kick = vhost_blk_handle_kick;
	queue->held_tail = &queue->held_list;
	init_llist_head(&queue->done);
	init_waitqueue_head(&queue->drain_wait);
	vhost_work_init(&queue->done_work, vhost_blk_handle_done);
	init_llist_head(&queue->resubmit);
	INIT_WORK(&queue->resubmit_work, vhost_blk_bio_resubmit);
	return queue;
}

/* None may be in flight. Under vq->mutex, or with the queue out of everybody's reach. */
void vhost_blk_free_requests(struct vhost_blk_queue *queue)
{
	struct vhost_blk_request *request, *next;

	vhost_blk_forget_held(queue);
	for (request = queue->requests; request; request = next) {
		next = request->next;
		/* One that was held has kept its pages. */
		vhost_blk_request_release(request);
		kfree(request);
	}
	queue->requests = NULL;
	queue->free = NULL;
	queue->request_count = 0;
}
