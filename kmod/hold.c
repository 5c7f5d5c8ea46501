// SPDX-License-Identifier: GPL-2.0-only
/*
 * Error policy: a request that the storage failed may be held, unanswered, until the VMM says what to do. While a
 * running queue of the descriptor holds one, none of them fetches.
 */
#include <linux/slab.h>

#include "internal.h"
#include "trace.h"

static bool vhost_blk_must_hold(const struct vhost_blk_request *request)
{
	u32 flags = request->queue->config.flags;

	/* Memory that the guest does not have, or what the backend cannot do: another try would end alike. */
	if (request->error == -EFAULT || request->error == -EOPNOTSUPP)
		return false;
	if (request->type == VIRTIO_BLK_T_IN)
		return flags & VHOST_BLK_CONFIG_HOLD_READ;
	return flags & VHOST_BLK_CONFIG_HOLD_WRITE ||
	       (flags & VHOST_BLK_CONFIG_HOLD_ENOSPC && request->error == -ENOSPC);
}

/*
 * Holds a failed request if the policy says so. Under vq->mutex, in the owner's address space. False: it is to be
 * answered.
 */
bool vhost_blk_hold(struct vhost_blk_request *request)
{
	struct vhost_blk_queue *queue = request->queue;

	if (!vhost_blk_must_hold(request))
		return false;
	/*
	 * A failed read may have written some of the guest's memory, and the VMM may take that memory elsewhere
	 * without ever seeing an answer. A retry logs its pages again.
	 */
	vhost_blk_request_log(request);
	request->next_free = NULL;
	*queue->held_tail = request;
	queue->held_tail = &request->next_free;
	WRITE_ONCE(queue->held, queue->held + 1);
	WRITE_ONCE(queue->inflight, queue->inflight - 1);
	atomic_inc(&queue->blk->held);
	trace_vhost_blk_hold(request);
	vhost_blk_signal(queue->blk, VHOST_BLK_EVENT_HELD);
	return true;
}

/*
 * Leaves the held requests of a queue that stops to the VMM: the list stays, what they need to be executed goes. Under
 * vq->mutex.
 */
void vhost_blk_disown_held(struct vhost_blk_queue *queue)
{
	struct vhost_blk_request *request;

	for (request = queue->held_list; request; request = request->next_free)
		vhost_blk_request_release(request);
	atomic_sub(queue->held, &queue->blk->held);
}

/* Drops the list of held requests, which are about to be freed. Under vq->mutex. */
void vhost_blk_forget_held(struct vhost_blk_queue *queue)
{
	queue->held_list = NULL;
	queue->held_tail = &queue->held_list;
	WRITE_ONCE(queue->held, 0);
}

/* Copies up to room entries of the queue's list. Returns how many there are. */
static unsigned int vhost_blk_list_held(struct vhost_blk_queue *queue, struct vhost_blk_held *entries,
					unsigned int room)
{
	struct vhost_blk_request *request;
	unsigned int i = 0, held;

	mutex_lock(&queue->vq.mutex);
	for (request = queue->held_list; request && i < room; request = request->next_free)
		entries[i++] = (struct vhost_blk_held){
			.head = request->head,
			.type = request->type,
			.error = -request->error,
		};
	held = queue->held;
	mutex_unlock(&queue->vq.mutex);
	return held;
}

/* VHOST_BLK_GET_HELD. Takes none of the locks that a drain holds while it waits. */
long vhost_blk_get_held(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_held *entries = NULL;
	struct vhost_blk_held_list list;
	struct vhost_blk_queue *queue;
	unsigned int room;
	long r = 0;

	if (copy_from_user(&list, argp, sizeof(list)))
		return -EFAULT;
	if (memchr_inv(list.reserved, 0, sizeof(list.reserved)))
		return -EINVAL;
	down_read(&blk->queues_lock);
	queue = vhost_blk_get_queue(blk, list.queue);
	if (!queue) {
		r = -ENOBUFS;
		goto out;
	}
	/* More may fail in between; the next call lists them. */
	room = min(list.count, READ_ONCE(queue->held));
	if (room) {
		entries = kvcalloc(room, sizeof(*entries), GFP_KERNEL_ACCOUNT);
		if (!entries) {
			r = -ENOMEM;
			goto out;
		}
	}
	list.count = vhost_blk_list_held(queue, entries, room);
	/* It may have become shorter, too. */
	room = min(room, list.count);
	if ((room && copy_to_user(u64_to_user_ptr(list.entries), entries, room * sizeof(*entries))) ||
	    copy_to_user(argp, &list, sizeof(list)))
		r = -EFAULT;
out:
	up_read(&blk->queues_lock);
	kvfree(entries);
	return r;
}

static void vhost_blk_release_queue(struct vhost_blk_queue *queue, u32 action)
{
	struct vhost_blk_request *request, *next;

	mutex_lock(&queue->vq.mutex);
	/* What a stopped queue lists is the VMM's. */
	if (!queue->vq.private_data)
		goto out;
	request = queue->held_list;
	atomic_sub(queue->held, &queue->blk->held);
	WRITE_ONCE(queue->inflight, queue->inflight + queue->held);
	vhost_blk_forget_held(queue);
	for (; request; request = next) {
		next = request->next_free;
		if (action == VHOST_BLK_HELD_RETRY) {
			vhost_blk_request_retry(request);
		} else {
			/* Its status tells the guest; without an error it is not held again. */
			request->error = 0;
			llist_add(&request->done_node, &queue->done);
		}
	}
	vhost_blk_reap(queue, true);
out:
	mutex_unlock(&queue->vq.mutex);
}

/* VHOST_BLK_RELEASE_HELD. For the owner, with vhost_blk.mutex held: nothing is drained meanwhile. */
long vhost_blk_release_held(struct vhost_blk *blk, const void __user *argp)
{
	unsigned int i;
	u32 action;

	if (get_user(action, (const u32 __user *)argp))
		return -EFAULT;
	if (action != VHOST_BLK_HELD_RETRY && action != VHOST_BLK_HELD_FAIL)
		return -EINVAL;
	for (i = 0; i < blk->queue_count; i++)
		vhost_blk_release_queue(blk->queues[i], action);
	vhost_blk_resume_all(blk);
	return 0;
}
