/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel has done for a disk, as its own counters and in the drive's statistics. */
#include "vhost-blk.h"
#include <sys/ioctl.h>
#include "block/accounting.h"
#include "qemu/timer.h"

static void add_queue(VHostBlk *v, unsigned index, VHostBlkCounters *sum)
{
    struct vhost_blk_stats stats = { .queue = index };

    if (ioctl(v->fd, VHOST_BLK_GET_STATS, &stats) < 0) {
        return;
    }
    sum->requests += stats.reads + stats.writes + stats.flushes + stats.others;
    sum->errors += stats.errors;
    sum->reads += stats.reads;
    sum->writes += stats.writes;
    sum->flushes += stats.flushes;
    sum->discards += stats.discards;
    sum->write_zeroes += stats.write_zeroes;
    sum->read_bytes += stats.read_bytes;
    sum->write_bytes += stats.write_bytes;
    sum->discard_bytes += stats.discard_bytes;
    sum->running_queues += stats.running;
    sum->inflight += stats.inflight;
    sum->held += stats.held;
    for (unsigned type = 0; type < VHOST_BLK_LATENCY_TYPES; type++) {
        struct vhost_blk_latency latency = { .queue = index, .type = type };

        if (ioctl(v->fd, VHOST_BLK_GET_LATENCY, &latency) == 0) {
            sum->time_ns[type] += latency.sum_ns;
        }
    }
}

VHostBlkCounters vblk_counters(VHostBlk *v)
{
    VHostBlkCounters sum = v->past;

    for (unsigned i = 0; v->fd >= 0 && i < v->hdev.nvqs; i++) {
        add_queue(v, i, &sum);
    }
    return sum;
}

void vblk_counters_keep(VHostBlk *v)
{
    v->past = vblk_counters(v);
    v->past.running_queues = 0;
    v->past.inflight = 0;
    v->past.held = 0;
}

/*
 * Write-zeroes count as writes of no bytes, and their time, which the kernel doesn't tell from that of discards, as
 * that of discards. Requests that failed are not told apart by type: they are among the others.
 */
void vblk_account(VHostBlk *v)
{
    BlockAcctStats *stats = blk_get_stats(VIRTIO_BLK(v)->blk);
    const VHostBlkCounters now = vblk_counters(v);
    const VHostBlkCounters *then = &v->accounted;

    if (now.requests != then->requests) {
        WITH_QEMU_LOCK_GUARD(&stats->lock) {
            stats->nr_ops[BLOCK_ACCT_READ] += now.reads - then->reads;
            stats->nr_ops[BLOCK_ACCT_WRITE] += now.writes - then->writes + now.write_zeroes - then->write_zeroes;
            stats->nr_ops[BLOCK_ACCT_FLUSH] += now.flushes - then->flushes;
            stats->nr_ops[BLOCK_ACCT_UNMAP] += now.discards - then->discards;
            stats->nr_bytes[BLOCK_ACCT_READ] += now.read_bytes - then->read_bytes;
            stats->nr_bytes[BLOCK_ACCT_WRITE] += now.write_bytes - then->write_bytes;
            stats->nr_bytes[BLOCK_ACCT_UNMAP] += now.discard_bytes - then->discard_bytes;
            stats->total_time_ns[BLOCK_ACCT_READ] +=
                now.time_ns[VHOST_BLK_LATENCY_READ] - then->time_ns[VHOST_BLK_LATENCY_READ];
            stats->total_time_ns[BLOCK_ACCT_WRITE] +=
                now.time_ns[VHOST_BLK_LATENCY_WRITE] - then->time_ns[VHOST_BLK_LATENCY_WRITE];
            stats->total_time_ns[BLOCK_ACCT_FLUSH] +=
                now.time_ns[VHOST_BLK_LATENCY_FLUSH] - then->time_ns[VHOST_BLK_LATENCY_FLUSH];
            stats->total_time_ns[BLOCK_ACCT_UNMAP] +=
                now.time_ns[VHOST_BLK_LATENCY_OTHER] - then->time_ns[VHOST_BLK_LATENCY_OTHER];
            stats->last_access_time_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
        }
    }
    v->accounted = now;
}
