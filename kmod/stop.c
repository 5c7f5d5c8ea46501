// SPDX-License-Identifier: GPL-2.0-only
/* Starting a queue, and stopping it so that nothing is left in flight. */
#include <linux/slab.h>

#include "internal.h"
#include "trace.h"

/*
 * Waits until nothing is in flight but what is held, answering what completes meanwhile: the worker may have been
 * killed. For the owner, in an ioctl, with the queue's fetching already off. A killed caller gets EINTR; its release
 * does the rest.
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
		trace_vhost_blk_drain(queue);
		r = wait_event_killable(queue->drain_wait,
					!llist_empty(&queue->done) || !READ_ONCE(queue->inflight));
		if (r)
			return -EINTR;
	}
}

static void vhost_blk_stop_fetching(struct vhost_blk_queue *queue)
{
	mutex_lock(&queue->vq.mutex);
	queue->draining = true;
	mutex_unlock(&queue->vq.mutex);
}

static void vhost_blk_resume(struct vhost_blk_queue *queue)
{
	mutex_lock(&queue->vq.mutex);
	queue->draining = false;
	/* What the guest made available meanwhile was kicked in vain. */
	if (queue->vq.private_data)
		vhost_poll_queue(&queue->vq.poll);
	mutex_unlock(&queue->vq.mutex);
}

/*
 * Stops all queues from fetching, then drains them: one by one would let the others go on and the drain find no end.
 * EBUSY: requests are held, which know the present memory and log. Undone by itself on failure.
 */
int vhost_blk_drain_all(struct vhost_blk *blk)
{
	unsigned int i;
	int r = 0;

	for (i = 0; i < blk->queue_count; i++)
		vhost_blk_stop_fetching(blk->queues[i]);
	for (i = 0; i < blk->queue_count && !r; i++)
		r = vhost_blk_drain(blk->queues[i]);
	if (!r && vhost_blk_frozen(blk))
		r = -EBUSY;
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
 * EBUSY: the last stop did not end, because its caller was killed.
 */
int vhost_blk_queue_start(struct vhost_blk_queue *queue, struct vhost_blk_backend *backend)
{
	struct vhost_virtqueue *vq = &queue->vq;
	struct vhost_blk_request *request;
	int r = -EFAULT;

	if (queue->backend.file)
		return -EBUSY;
	mutex_lock(&vq->mutex);
	/* The only check that ring and memory table are addresses of user space. */
	if (!vhost_vq_is_setup(vq))
		goto out;
	r = -ENOMEM;
	request = vhost_blk_alloc_request(queue);
	if (!request)
		goto out;
	/* vhost_vq_init_access() does nothing for a queue without a backend. */
	vq->private_data = backend->file;
	r = vhost_vq_init_access(vq);
	if (r) {
		vq->private_data = NULL;
		kfree(request);
		goto out;
	}
	vhost_blk_free_requests(queue);
	vhost_blk_add_request(queue, request);
	queue->backend = *backend;
	queue->config = queue->blk->config;
	queue->starved = false;
	queue->paused = false;
	vhost_poll_queue(&vq->poll);
out:
	mutex_unlock(&vq->mutex);
	return r;
}

/*
 * Unbinds a queue once all it had fetched is answered or held. Done already if it is stopped. Held requests become the
 * VMM's: what is left of them is their list.
 */
int vhost_blk_queue_stop(struct vhost_blk_queue *queue)
{
	unsigned int held;
	int r;

	mutex_lock(&queue->vq.mutex);
	queue->vq.private_data = NULL;
	mutex_unlock(&queue->vq.mutex);
	r = vhost_blk_drain(queue);
	if (r)
		return r;
	if (!queue->backend.file)
		return 0;
	mutex_lock(&queue->vq.mutex);
	queue->paused = false;
	held = queue->held;
	if (held)
		vhost_blk_disown_held(queue);
	else
		vhost_blk_free_requests(queue);
	mutex_unlock(&queue->vq.mutex);
	vhost_blk_backend_put(&queue->backend);
	/* Others may have waited for these only. */
	if (held && !vhost_blk_frozen(queue->blk))
		vhost_blk_resume_all(queue->blk);
	return 0;
}

/* Changes the file of a running queue between two requests. EBUSY: some are held. On success it owns the backend. */
int vhost_blk_queue_replace(struct vhost_blk_queue *queue, struct vhost_blk_backend *backend)
{
	struct vhost_virtqueue *vq = &queue->vq;
	int r;

	vhost_blk_stop_fetching(queue);
	r = vhost_blk_drain(queue);
	if (!r && queue->held)
		r = -EBUSY;
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

static void vhost_blk_set_paused(struct vhost_blk_queue *queue, bool paused)
{
	mutex_lock(&queue->vq.mutex);
	queue->paused = paused;
	trace_vhost_blk_pause(queue);
	if (paused && !queue->inflight)
		vhost_blk_signal(queue->blk, VHOST_BLK_EVENT_DRAINED);
	else if (!paused && queue->vq.private_data)
		vhost_poll_queue(&queue->vq.poll);
	mutex_unlock(&queue->vq.mutex);
}

/* VHOST_BLK_PAUSE. Takes none of the locks that a drain holds while it waits. */
long vhost_blk_pause(struct vhost_blk *blk, const void __user *argp)
{
	struct vhost_blk_pause arg;
	struct vhost_blk_queue *queue;
	unsigned int i;

	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;
	if (arg.paused > 1)
		return -EINVAL;
	down_read(&blk->queues_lock);
	queue = vhost_blk_get_queue(blk, arg.queue);
	if (queue)
		vhost_blk_set_paused(queue, arg.paused);
	else if (arg.queue == VHOST_BLK_ALL_QUEUES)
		for (i = 0; i < blk->queue_count; i++)
			vhost_blk_set_paused(blk->queues[i], arg.paused);
	up_read(&blk->queues_lock);
	return queue || arg.queue == VHOST_BLK_ALL_QUEUES ? 0 : -ENOBUFS;
}
