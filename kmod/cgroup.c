// SPDX-License-Identifier: GPL-2.0-only
/* Who pays for what kernel threads do in a VM's stead. The queues' workers need none of this: they are the owner's. */
#include <linux/cgroup.h>
#include <linux/kthread.h>
#include <linux/pid.h>
#include <linux/sched/task.h>

#include "internal.h"

/*
 * Charges the I/O of the calling kernel thread to the owner's cgroup, as it is now, until vhost_blk_uncharge().
 * Memory needs no such call: it is charged by the address space in use.
 */
void vhost_blk_charge(struct vhost_blk *blk)
{
#ifdef CONFIG_BLK_CGROUP
	struct task_struct *task = get_pid_task(blk->owner, PIDTYPE_TGID);
	struct cgroup_subsys_state *css;

	/* Gone: what is left of its requests is the root's. */
	if (!task)
		return;
	css = task_get_css(task, io_cgrp_id);
	put_task_struct(task);
	kthread_associate_blkcg(css);
	css_put(css);
#endif
}

void vhost_blk_uncharge(void)
{
	kthread_associate_blkcg(NULL);
}
