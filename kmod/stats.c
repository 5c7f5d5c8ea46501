// SPDX-License-Identifier: GPL-2.0-only
/* Counters and latencies, by ioctl and in fdinfo. Counted under vq->mutex, read without: an answer waits for nobody. */
#include <linux/log2.h>
#include <linux/nospec.h>
#include <linux/seq_file.h>
#include <linux/string_helpers.h>

#include "internal.h"

/* As the header has it: four buckets to a power of two, from 2^FIRST to 2^LAST ns, and one at each end. */
#define VHOST_BLK_LATENCY_FIRST 10
#define VHOST_BLK_LATENCY_LAST 35
static_assert(VHOST_BLK_LATENCY_BUCKETS == (VHOST_BLK_LATENCY_LAST - VHOST_BLK_LATENCY_FIRST) * 4 + 2);

static unsigned int vhost_blk_latency_bucket(u64 ns)
{
	unsigned int power;

	if (ns >> VHOST_BLK_LATENCY_FIRST == 0)
		return 0;
	if (ns >> VHOST_BLK_LATENCY_LAST)
		return VHOST_BLK_LATENCY_BUCKETS - 1;
	power = ilog2(ns);
	return 1 + (power - VHOST_BLK_LATENCY_FIRST) * 4 + ((ns >> (power - 2)) & 3);
}

static u64 vhost_blk_ranges_length(const struct vhost_blk_request *request)
{
	u64 sectors = 0;
	unsigned int i;

	for (i = 0; i < request->range_count; i++)
		sectors += le32_to_cpu(request->ranges[i].num_sectors);
	return sectors << SECTOR_SHIFT;
}

/* Counts a request that has just been answered, under vq->mutex. */
void vhost_blk_count(struct vhost_blk_request *request, u64 now)
{
	struct vhost_blk_queue *queue = request->queue;
	bool ok = request->status == VIRTIO_BLK_S_OK;
	u64 ns = now - request->start_ns;
	unsigned int type;

	switch (request->type) {
	case VIRTIO_BLK_T_IN:
		type = VHOST_BLK_LATENCY_READ;
		queue->reads++;
		queue->read_bytes += ok ? request->length : 0;
		break;
	case VIRTIO_BLK_T_OUT:
		type = VHOST_BLK_LATENCY_WRITE;
		queue->writes++;
		queue->write_bytes += ok ? request->length : 0;
		break;
	case VIRTIO_BLK_T_FLUSH:
		type = VHOST_BLK_LATENCY_FLUSH;
		queue->flushes++;
		break;
	default:
		type = VHOST_BLK_LATENCY_OTHER;
		queue->others++;
		if (request->type == VIRTIO_BLK_T_DISCARD) {
			queue->discards++;
			queue->discard_bytes += ok ? vhost_blk_ranges_length(request) : 0;
		} else if (request->type == VIRTIO_BLK_T_WRITE_ZEROES) {
			queue->write_zeroes++;
		}
	}
	queue->errors += !ok;
	queue->punted += request->punts;
	queue->bounced += request->bounce;
	queue->latency[type].sum_ns += ns;
	queue->latency[type].buckets[vhost_blk_latency_bucket(ns)]++;
}

/* The counters of a queue that is kept in place. */
struct vhost_blk_stats vhost_blk_queue_stats(struct vhost_blk_queue *queue)
{
	u64 held = READ_ONCE(queue->held);

	return (struct vhost_blk_stats){
		.running = !!READ_ONCE(queue->vq.private_data),
		.inflight = READ_ONCE(queue->inflight) + held,
		.reads = READ_ONCE(queue->reads),
		.writes = READ_ONCE(queue->writes),
		.flushes = READ_ONCE(queue->flushes),
		.others = READ_ONCE(queue->others),
		.errors = READ_ONCE(queue->errors),
		.read_bytes = READ_ONCE(queue->read_bytes),
		.write_bytes = READ_ONCE(queue->write_bytes),
		.paused = READ_ONCE(queue->paused),
		.frozen = vhost_blk_frozen(queue->blk),
		.held = held,
		.discards = READ_ONCE(queue->discards),
		.write_zeroes = READ_ONCE(queue->write_zeroes),
		.discard_bytes = READ_ONCE(queue->discard_bytes),
		.punted = READ_ONCE(queue->punted),
		.bounced = READ_ONCE(queue->bounced),
	};
}

/* VHOST_BLK_GET_STATS */
long vhost_blk_get_stats(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_queue *queue;
	struct vhost_blk_stats stats;
	u32 index;

	if (get_user(index, (u32 __user *)argp))
		return -EFAULT;
	down_read(&blk->queues_lock);
	queue = vhost_blk_get_queue(blk, index);
	if (queue)
		stats = vhost_blk_queue_stats(queue);
	up_read(&blk->queues_lock);
	if (!queue)
		return -ENOBUFS;
	stats.queue = index;
	return copy_to_user(argp, &stats, sizeof(stats)) ? -EFAULT : 0;
}

/* VHOST_BLK_GET_LATENCY */
long vhost_blk_get_latency(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_latency latency;
	struct vhost_blk_queue *queue;
	unsigned int i, type;

	if (copy_from_user(&latency, argp, offsetof(struct vhost_blk_latency, sum_ns)))
		return -EFAULT;
	if (latency.type >= VHOST_BLK_LATENCY_TYPES)
		return -EINVAL;
	type = array_index_nospec(latency.type, VHOST_BLK_LATENCY_TYPES);
	down_read(&blk->queues_lock);
	queue = vhost_blk_get_queue(blk, latency.queue);
	if (queue) {
		latency.sum_ns = READ_ONCE(queue->latency[type].sum_ns);
		for (i = 0; i < VHOST_BLK_LATENCY_BUCKETS; i++)
			latency.buckets[i] = READ_ONCE(queue->latency[type].buckets[i]);
	}
	up_read(&blk->queues_lock);
	if (!queue)
		return -ENOBUFS;
	return copy_to_user(argp, &latency, sizeof(latency)) ? -EFAULT : 0;
}

void vhost_blk_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct vhost_blk *blk = file->private_data;
	struct vhost_blk_stats sum = {};
	unsigned int i;

	down_read(&blk->queues_lock);
	for (i = 0; i < blk->queue_count; i++) {
		struct vhost_blk_stats one = vhost_blk_queue_stats(blk->queues[i]);

		sum.running += one.running;
		sum.paused += one.paused;
		sum.inflight += one.inflight;
		sum.held += one.held;
		sum.reads += one.reads;
		sum.writes += one.writes;
		sum.flushes += one.flushes;
		sum.others += one.others;
		sum.errors += one.errors;
		sum.read_bytes += one.read_bytes;
		sum.write_bytes += one.write_bytes;
		sum.discards += one.discards;
		sum.write_zeroes += one.write_zeroes;
		sum.discard_bytes += one.discard_bytes;
		sum.punted += one.punted;
		sum.bounced += one.bounced;
	}
	seq_printf(m, "vhost-blk-abi:\t%u\n", VHOST_BLK_ABI_VERSION);
	seq_printf(m, "vhost-blk-queues:\t%u\n", blk->queue_count);
	up_read(&blk->queues_lock);
	seq_printf(m, "vhost-blk-running:\t%u\n", sum.running);
	seq_printf(m, "vhost-blk-paused:\t%u\n", sum.paused);
	seq_printf(m, "vhost-blk-frozen:\t%u\n", vhost_blk_frozen(blk));
	seq_printf(m, "vhost-blk-inflight:\t%llu\n", sum.inflight);
	seq_printf(m, "vhost-blk-held:\t%llu\n", sum.held);
	seq_printf(m, "vhost-blk-reads:\t%llu\n", sum.reads);
	seq_printf(m, "vhost-blk-writes:\t%llu\n", sum.writes);
	seq_printf(m, "vhost-blk-flushes:\t%llu\n", sum.flushes);
	seq_printf(m, "vhost-blk-others:\t%llu\n", sum.others);
	seq_printf(m, "vhost-blk-errors:\t%llu\n", sum.errors);
	seq_printf(m, "vhost-blk-read-bytes:\t%llu\n", sum.read_bytes);
	seq_printf(m, "vhost-blk-write-bytes:\t%llu\n", sum.write_bytes);
	seq_printf(m, "vhost-blk-discards:\t%llu\n", sum.discards);
	seq_printf(m, "vhost-blk-write-zeroes:\t%llu\n", sum.write_zeroes);
	seq_printf(m, "vhost-blk-discard-bytes:\t%llu\n", sum.discard_bytes);
	seq_printf(m, "vhost-blk-punted:\t%llu\n", sum.punted);
	seq_printf(m, "vhost-blk-bounced:\t%llu\n", sum.bounced);
	seq_puts(m, "vhost-blk-serial:\t");
	seq_escape_mem(m, blk->config.serial, strnlen(blk->config.serial, VHOST_BLK_SERIAL_LEN),
		       ESCAPE_OCTAL | ESCAPE_NAP | ESCAPE_APPEND, "\\");
	seq_putc(m, '\n');
}
