// SPDX-License-Identifier: GPL-2.0-only
/* The eventfds by which a descriptor tells its VMM what that need not wait for. */
#include <linux/nospec.h>

#include "internal.h"

/* From process context, under any of our locks. */
void vhost_blk_signal(struct vhost_blk *blk, u32 event)
{
	spin_lock(&blk->event_lock);
	if (blk->events[event])
		vhost_blk_eventfd_signal(blk->events[event]);
	spin_unlock(&blk->event_lock);
}

static void vhost_blk_swap_event(struct vhost_blk *blk, u32 event, struct eventfd_ctx *eventfd)
{
	spin_lock(&blk->event_lock);
	swap(blk->events[event], eventfd);
	spin_unlock(&blk->event_lock);
	if (eventfd)
		eventfd_ctx_put(eventfd);
}

/* VHOST_BLK_SET_EVENT */
long vhost_blk_set_event(struct vhost_blk *blk, const void __user *argp)
{
	struct eventfd_ctx *eventfd = NULL;
	struct vhost_blk_event arg;

	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;
	if (arg.event >= VHOST_BLK_EVENTS)
		return -EINVAL;
	if (arg.fd != -1) {
		eventfd = eventfd_ctx_fdget(arg.fd);
		if (IS_ERR(eventfd))
			return PTR_ERR(eventfd);
	}
	vhost_blk_swap_event(blk, array_index_nospec(arg.event, VHOST_BLK_EVENTS), eventfd);
	return 0;
}

/* At release. */
void vhost_blk_put_events(struct vhost_blk *blk)
{
	u32 event;

	for (event = 0; event < VHOST_BLK_EVENTS; event++)
		vhost_blk_swap_event(blk, event, NULL);
}
