// SPDX-License-Identifier: GPL-2.0-only
/* One virtqueue: fetching, reaping, and stopping so that nothing is left in flight. */
#include <linux/sizes.h>
#include <linux/slab.h>

#include "internal.h"

/* Used elements are published in batches of this many. */
#define VHOST_BLK_REAP_BATCH 32

static void vhost_blk_free_request(struct vhost_blk_request *request)
{
	struct vhost_blk_queue *queue = request->queue;

	vhost_blk_request_release(request);
	request->next_free = queue->free;
	queue->free = request;
	WRITE_ONCE(queue->inflight, queue->inflight - 1);
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
static void vhost_blk_reap(struct vhost_blk_queue *queue, bool answer)
{
	struct vhost_virtqueue *vq = &queue->vq;
	struct llist_node *list = llist_reverse_order(llist_del_all(&queue->done));
	struct vring_used_elem used[VHOST_BLK_REAP_BATCH];
	struct vhost_blk_request *request, *next;
	unsigned int count = 0;

	if (!list)
		return;
	llist_for_each_entry_safe(request, next, list, done_node) {
		if (answer) {
			used[count].id = (__force __virtio32)__cpu_to_virtio32(vq->is_le, request->head);
			used[count].len = __cpu_to_virtio32(vq->is_le, vhost_blk_request_finish(request));
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
	if (!queue->inflight && wq_has_sleeper(&queue->drain_wait))
		wake_up(&queue->drain_wait);
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
 * Ends a request with 0 or the storage's error, in any context, interrupts included. EFAULT is for memory that the guest does
 * not have.
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
		/* A killed worker takes no work; release or a drain, if there is one waiting, reaps instead. */
		vhost_blk_queue_work(&queue->vq, &queue->done_work);
		if (wq_has_sleeper(&queue->drain_wait))
			wake_up(&queue->drain_wait);
	}
	rcu_read_unlock();
}

static void vhost_blk_fetch(struct vhost_blk_queue *queue)
{
	struct vhost_virtqueue *vq = &queue->vq;
	struct blk_plug plug;
	int fetched = 0, bytes = 0;

	if (!vq->private_data || queue->paused)
		return;

	vhost_disable_notify(vq->dev, vq);
	blk_start_plug(&plug);
	do {
		struct vhost_blk_request *request = queue->free;
		unsigned int out, in, log_count = 0;
		int head;

		if (!request) {
			/* More chains than the ring has room for: some head was made available twice. */
			queue->starved = true;
			break;
		}
		head = vhost_get_vq_desc(vq, vq->iov, ARRAY_SIZE(vq->iov), &out, &in,
					 vhost_has_feature(vq, VHOST_F_LOG_ALL) ? vq->log : NULL, &log_count);
		/* A broken ring: the vhost core has told the VMM by the error eventfd. */
		if (head < 0)
			break;
		if (head == vq->num) {
			if (vhost_enable_notify(vq->dev, vq)) {
				vhost_disable_notify(vq->dev, vq);
				continue;
			}
			break;
		}
		queue->free = request->next_free;
		WRITE_ONCE(queue->inflight, queue->inflight + 1);
		request->head = head;
		/* Without VHOST_F_LOG_ALL the core leaves the count alone. */
		vhost_blk_request_start(request, out, in, log_count);
		bytes += min_t(size_t, request->length, SZ_16M);
	} while (!vhost_exceeds_weight(vq, ++fetched, bytes));
	blk_finish_plug(&plug);

	vhost_blk_reap(queue, true);
}

static void vhost_blk_handle_kick(struct vhost_work *work)
{
	struct vhost_virtqueue *vq = container_of(work, struct vhost_virtqueue, poll.work);

	mutex_lock(&vq->mutex);
	vhost_blk_fetch(to_queue(vq));
	mutex_unlock(&vq->mutex);
}

static void vhost_blk_handle_done(struct vhost_work *work)
{
	struct vhost_blk_queue *queue = container_of(work, struct vhost_blk_queue, done_work);

	mutex_lock(&queue->vq.mutex);
	vhost_blk_reap(queue, true);
	mutex_unlock(&queue->vq.mutex);
}

struct vhost_blk_queue *vhost_blk_queue_alloc(struct vhost_blk *blk)
{
	struct vhost_blk_queue *queue = kvzalloc(sizeof(*queue), GFP_KERNEL_ACCOUNT);

	if (!queue)
		return NULL;
	queue->blk = blk;
	queue->vq.handle_kick = vhost_blk_handle_kick;
	init_llist_head(&queue->done);
	init_waitqueue_head(&queue->drain_wait);
	vhost_work_init(&queue->done_work, vhost_blk_handle_done);
	init_llist_head(&queue->resubmit);
	INIT_WORK(&queue->resubmit_work, vhost_blk_bio_resubmit);
	return queue;
}

static int vhost_blk_alloc_requests(struct vhost_blk_queue *queue)
{
	unsigned int i, count = queue->vq.num;

	queue->requests = kvcalloc(count, sizeof(*queue->requests), GFP_KERNEL_ACCOUNT);
	if (!queue->requests)
		return -ENOMEM;
	queue->free = NULL;
	for (i = 0; i < count; i++) {
		struct vhost_blk_request *request = &queue->requests[i];

		request->queue = queue;
		vhost_blk_io_init(request);
		request->next_free = queue->free;
		queue->free = request;
	}
	return 0;
}

static void vhost_blk_free_requests(struct vhost_blk_queue *queue)
{
	kvfree(queue->requests);
	queue->requests = NULL;
	queue->free = NULL;
}

/*
 * Waits until nothing is in flight, answering what completes meanwhile: the worker may have been killed. For the
 * owner, in an ioctl, with the queue's fetching already off. A killed caller gets EINTR; its release does the rest.
 */
static int vhost_blk_drain(struct vhost_blk_queue *queue)
{
	for (;;) {
		unsigned int inflight;
		int r;

		mutex_lock(&queue->vq.mutex);
		vhost_blk_reap(queue, true);
		inflight = queue->inflight;
		mutex_unlock(&queue->vq.mutex);
		if (!inflight)
			return 0;
		r = wait_event_killable(queue->drain_wait,
					!llist_empty(&queue->done) || !READ_ONCE(queue->inflight));
		if (r)
			return -EINTR;
	}
}

static int vhost_blk_pause(struct vhost_blk_queue *queue)
{
	mutex_lock(&queue->vq.mutex);
	queue->paused = true;
	mutex_unlock(&queue->vq.mutex);
	return vhost_blk_drain(queue);
}

static void vhost_blk_resume(struct vhost_blk_queue *queue)
{
	mutex_lock(&queue->vq.mutex);
	queue->paused = false;
	/* What the guest made available meanwhile was kicked in vain. */
	if (queue->vq.private_data)
		vhost_poll_queue(&queue->vq.poll);
	mutex_unlock(&queue->vq.mutex);
}

/*
 * Stops all queues from fetching, then drains them: one by one would let the others go on and the drain find no end.
 * Undone by itself on failure.
 */
int vhost_blk_pause_all(struct vhost_blk *blk)
{
	unsigned int i;
	int r = 0;

	for (i = 0; i < blk->queue_count; i++) {
		mutex_lock(&blk->queues[i]->vq.mutex);
		blk->queues[i]->paused = true;
		mutex_unlock(&blk->queues[i]->vq.mutex);
	}
	for (i = 0; i < blk->queue_count && !r; i++)
		r = vhost_blk_drain(blk->queues[i]);
	if (r)
		vhost_blk_resume_all(blk);
	return r;
}

void vhost_blk_resume_all(struct vhost_blk *blk)
{
	unsigned int i;

	for (i = 0; i < blk->queue_count; i++)
		vhost_blk_resume(blk->queues[i]);
}

/*
 * Binds a stopped queue. On success the backend is the queue's. EFAULT: the ring is not set up, or not in its memory.
 */
int vhost_blk_queue_start(struct vhost_blk_queue *queue, struct vhost_blk_backend *backend)
{
	struct vhost_virtqueue *vq = &queue->vq;
	int r = -EFAULT;

	/* Left by a stop whose caller was killed. */
	if (queue->requests)
		return -EBUSY;
	mutex_lock(&vq->mutex);
	/* The only check that ring and memory table are addresses of user space. */
	if (!vhost_vq_is_setup(vq))
		goto out;
	r = vhost_blk_alloc_requests(queue);
	if (r)
		goto out;
	queue->backend = *backend;
	queue->config = queue->blk->config;
	queue->starved = false;
	/* vhost_vq_init_access() does nothing for a queue without a backend. */
	vq->private_data = backend->file;
	r = vhost_vq_init_access(vq);
	if (r) {
		vq->private_data = NULL;
		queue->backend.file = NULL;
		vhost_blk_free_requests(queue);
		goto out;
	}
	vhost_poll_queue(&vq->poll);
out:
	mutex_unlock(&vq->mutex);
	return r;
}

/* Unbinds a queue once all it had fetched is answered. Done already if it is stopped. */
int vhost_blk_queue_stop(struct vhost_blk_queue *queue)
{
	int r;

	mutex_lock(&queue->vq.mutex);
	queue->vq.private_data = NULL;
	mutex_unlock(&queue->vq.mutex);
	r = vhost_blk_drain(queue);
	if (r)
		return r;
	vhost_blk_free_requests(queue);
	vhost_blk_backend_put(&queue->backend);
	return 0;
}

/* Changes the file of a running queue between two requests. On success the backend is the queue's. */
int vhost_blk_queue_replace(struct vhost_blk_queue *queue, struct vhost_blk_backend *backend)
{
	struct vhost_virtqueue *vq = &queue->vq;
	int r = vhost_blk_pause(queue);

	if (!r) {
		mutex_lock(&vq->mutex);
		swap(queue->backend, *backend);
		vq->private_data = queue->backend.file;
		mutex_unlock(&vq->mutex);
		vhost_blk_backend_put(backend);
	}
	vhost_blk_resume(queue);
	return r;
}

/*
 * Ends a queue at release. Waits for the storage, since pages of the owner are in its hands, but for no worker: the
 * owner may have been killed and its worker with it. What completes is answered only if this is still the owner's
 * address space.
 */
void vhost_blk_queue_kill(struct vhost_blk_queue *queue)
{
	bool answer = current->mm && current->mm == queue->vq.dev->mm;

	for (;;) {
		unsigned int inflight;

		mutex_lock(&queue->vq.mutex);
		queue->vq.private_data = NULL;
		vhost_blk_reap(queue, answer);
		inflight = queue->inflight;
		mutex_unlock(&queue->vq.mutex);
		if (!inflight)
			break;
		wait_event(queue->drain_wait, !llist_empty(&queue->done) || !READ_ONCE(queue->inflight));
	}
	vhost_blk_free_requests(queue);
	vhost_blk_backend_put(&queue->backend);
}
