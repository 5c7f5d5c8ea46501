// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk/<pid>-<n>/queue<i> in debugfs, for root: a queue's counters, held requests and latencies, one
 * "name:<tab>value" a line. Nothing of the guest's memory shows.
 */
#include <linux/debugfs.h>
#include <linux/sched.h>
#include <linux/seq_file.h>

#include "internal.h"

static struct dentry *root;

static void vhost_blk_show_held(struct seq_file *m, struct vhost_blk_queue *queue)
{
	struct vhost_blk_request *request;

	mutex_lock(&queue->vq.mutex);
	for (request = queue->held_list; request; request = request->next_free)
		seq_printf(m, "held-request:\thead %u type %u error %d\n", request->head, request->type,
			   -request->error);
	mutex_unlock(&queue->vq.mutex);
}

static void vhost_blk_show_latency(struct seq_file *m, struct vhost_blk_queue *queue, unsigned int type)
{
	static const char *const names[VHOST_BLK_LATENCY_TYPES] = { "read", "write", "flush", "other" };
	unsigned int i;

	seq_printf(m, "%s-latency-sum-ns:\t%llu\n", names[type], READ_ONCE(queue->latency[type].sum_ns));
	for (i = 0; i < VHOST_BLK_LATENCY_BUCKETS; i++) {
		u64 count = READ_ONCE(queue->latency[type].buckets[i]);
		/* See VHOST_BLK_GET_LATENCY. */
		u64 from = i ? (4ULL + (i - 1) % 4) << (8 + (i - 1) / 4) : 0;

		if (count)
			seq_printf(m, "%s-latency-from-%llu-ns:\t%llu\n", names[type], from, count);
	}
}

static int queue_show(struct seq_file *m, void *v)
{
	struct vhost_blk_queue *queue = m->private;
	struct vhost_blk_stats stats = vhost_blk_queue_stats(queue);
	unsigned int type;

	seq_printf(m, "running:\t%u\n", stats.running);
	seq_printf(m, "paused:\t%u\n", stats.paused);
	seq_printf(m, "frozen:\t%u\n", stats.frozen);
	seq_printf(m, "inflight:\t%llu\n", stats.inflight);
	seq_printf(m, "held:\t%llu\n", stats.held);
	seq_printf(m, "reads:\t%llu\n", stats.reads);
	seq_printf(m, "writes:\t%llu\n", stats.writes);
	seq_printf(m, "flushes:\t%llu\n", stats.flushes);
	seq_printf(m, "others:\t%llu\n", stats.others);
	seq_printf(m, "errors:\t%llu\n", stats.errors);
	seq_printf(m, "read-bytes:\t%llu\n", stats.read_bytes);
	seq_printf(m, "write-bytes:\t%llu\n", stats.write_bytes);
	seq_printf(m, "discards:\t%llu\n", stats.discards);
	seq_printf(m, "write-zeroes:\t%llu\n", stats.write_zeroes);
	seq_printf(m, "discard-bytes:\t%llu\n", stats.discard_bytes);
	seq_printf(m, "punted:\t%llu\n", stats.punted);
	seq_printf(m, "bounced:\t%llu\n", stats.bounced);
	vhost_blk_show_held(m, queue);
	for (type = 0; type < VHOST_BLK_LATENCY_TYPES; type++)
		vhost_blk_show_latency(m, queue, type);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(queue);

/* Makes the descriptor's folder for the queues that it now has. */
void vhost_blk_debugfs_add(struct vhost_blk *blk)
{
	char name[32];
	unsigned int i;

	snprintf(name, sizeof(name), "%d-%u", task_tgid_nr(current), blk->id);
	blk->debugfs = debugfs_create_dir(name, root);
	for (i = 0; i < blk->queue_count; i++) {
		snprintf(name, sizeof(name), "queue%u", i);
		debugfs_create_file(name, 0400, blk->debugfs, blk->queues[i], &queue_fops);
	}
}

/* Waits for whoever is reading: afterwards the queues may go. */
void vhost_blk_debugfs_remove(struct vhost_blk *blk)
{
	debugfs_remove(blk->debugfs);
	blk->debugfs = NULL;
}

void __init vhost_blk_debugfs_init(void)
{
	root = debugfs_create_dir("vhost-blk", NULL);
}

void vhost_blk_debugfs_exit(void)
{
	debugfs_remove(root);
}
