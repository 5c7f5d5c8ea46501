/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Binding the image to the rings, and taking it away again.
 *
 *                  vblk_kernel_rest                  nothing in flight: vblk_kernel_rested
 *     serving ----------------------> resting -------------------------------------------> paused
 *        ^  \                                                                             /   ^
 *        |   `---- vblk_kernel_pause, which waits -------------------------------------------'
 *        `------------------------------- vblk_kernel_resume ---------------------------'
 *
 * While it rests, the main loop runs on: storage that hangs stops no one but its guest. The kernel tells the end of a rest by
 * an eventfd. A rest can't be called off, only completed and then resumed.
 */
#include "vhost-blk.h"
#include <sys/ioctl.h>
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "trace.h"

/* Binds an image (or -1: none) to every ring that the guest has set up. */
static int set_backends(VHostBlk *v, int image_fd)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(v);

    for (unsigned i = 0; i < v->hdev.nvqs; i++) {
        struct vhost_vring_file file = { .index = i, .fd = image_fd };
        int r;

        if (!virtio_queue_get_desc_addr(vdev, i)) {
            continue;
        }
        r = RETRY_ON_EINTR(ioctl(v->fd, VHOST_BLK_SET_BACKEND, &file));
        if (r < 0) {
            return -errno;
        }
    }
    return 0;
}

/* The kernel ate the kicks of the time without a backend, and those before it. */
static void kick_all(VHostBlk *v)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(v);

    for (unsigned i = 0; i < v->hdev.nvqs; i++) {
        if (virtio_queue_get_desc_addr(vdev, i)) {
            event_notifier_set(virtio_queue_get_host_notifier(virtio_get_queue(vdev, i)));
        }
    }
}

static void mark_graph_written(VHostBlk *v)
{
    BlockDriverState *bs = blk_bs(VIRTIO_BLK(v)->blk);

    GRAPH_RDLOCK_GUARD_MAINLOOP();
    for (; bs; bs = bs->file ? bs->file->bs : NULL) {
        vblk_mark_written(bs);
    }
}

bool vblk_kernel_resume(VHostBlk *v, Error **errp)
{
    BlockDriverState *image = vblk_image_node(v);
    int r;

    if (!vblk_kernel_configure(v, errp)) {
        return false;
    }
    v->image_fd = vblk_file_posix_fd(image);
    v->paused = false;
    r = set_backends(v, v->image_fd);
    if (r < 0) {
        error_setg_errno(errp, -r, "the kernel refused the image '%s'", image->filename);
        vblk_kernel_pause(v);
        return false;
    }
    kick_all(v);
    trace_vhost_blk_resume(v, v->image_fd);
    return true;
}

/*
 * The kernel kept a ring. Closing the descriptor makes it finish and let go; by then all that it took from the ring is
 * in the used ring.
 */
static void force_rings_back(VHostBlk *v)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(v);
    unsigned count = v->hdev.nvqs;

    vhost_dev_stop(&v->hdev, vdev, false);
    vblk_kernel_close(v);
    v->no_kernel = g_strdup("the kernel did not stop a ring");
    for (unsigned i = 0; i < count; i++) {
        if (virtio_queue_get_desc_addr(vdev, i)) {
            virtio_queue_restore_last_avail_idx(vdev, i);
            virtio_queue_update_used_idx(vdev, i);
        }
    }
}

static void flushed(void *opaque, int ret)
{
    if (ret < 0) {
        warn_report("vhost-blk: flushing the write cache that the guest turned off failed: %s", strerror(-ret));
    }
}

void vblk_kernel_pause(VHostBlk *v)
{
    int r;

    if (v->paused) {
        return;
    }
    r = set_backends(v, -1);
    if (r < 0) {
        error_report("vhost-blk: the kernel did not stop a ring: %s", strerror(-r));
        force_rings_back(v);
    }
    v->resting = false;
    v->paused = true;
    trace_vhost_blk_pause(v);
    mark_graph_written(v);
    vblk_take_held(v);
    if (v->flush_due) {
        v->flush_due = false;
        blk_aio_flush(VIRTIO_BLK(v)->blk, flushed, NULL);
    }
}

void vblk_kernel_rest(VHostBlk *v)
{
    struct vhost_blk_pause pause = { .queue = VHOST_BLK_ALL_QUEUES, .paused = 1 };

    if (v->resting || v->paused) {
        return;
    }
    if (ioctl(v->fd, VHOST_BLK_PAUSE, &pause) < 0) {
        error_report("vhost-blk: the kernel did not pause the rings: %s", strerror(errno));
        vblk_kernel_pause(v);
        return;
    }
    v->resting = true;
    trace_vhost_blk_rest(v);
    vblk_kernel_rested(v);
}

/* Held requests are at rest: the kernel touches them no more. */
static bool in_flight(VHostBlk *v)
{
    for (unsigned i = 0; i < v->hdev.nvqs; i++) {
        struct vhost_blk_stats stats = { .queue = i };

        if (ioctl(v->fd, VHOST_BLK_GET_STATS, &stats) == 0 && stats.inflight != stats.held) {
            return true;
        }
    }
    return false;
}

bool vblk_kernel_rested(VHostBlk *v)
{
    if (v->resting && !in_flight(v)) {
        vblk_kernel_pause(v);
    }
    return !v->resting;
}

bool vblk_kernel_await_rest(VHostBlk *v, int64_t ms)
{
    int64_t end = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + ms;

    while (!vblk_kernel_rested(v)) {
        GPollFD drained = { .fd = event_notifier_get_fd(&v->drained), .events = G_IO_IN };
        int64_t left = end - qemu_clock_get_ms(QEMU_CLOCK_REALTIME);

        if (left <= 0) {
            return false;
        }
        if (g_poll(&drained, 1, left) > 0) {
            event_notifier_test_and_clear(&v->drained);
        }
    }
    return true;
}
