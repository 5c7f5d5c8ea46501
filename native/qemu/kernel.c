/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's side of a disk: /dev/vhost-blk, its configuration, and the rings it serves.
 * The generic part of the vhost protocol (memory table, dirty log, rings) is QEMU's struct vhost_dev.
 */
#include "vhost-blk.h"
#include <sys/ioctl.h>
#include "qapi/error.h"
#include "qemu/error-report.h"

/* Returns the descriptor of an initialized hdev, or -1. */
static int open_and_init(VHostBlk *v, Error **errp)
{
    VirtIOBlock *s = VIRTIO_BLK(v);
    const char *path = v->vhostdev ? v->vhostdev : "/dev/vhost-blk";
    uint32_t queues = s->conf.num_queues;
    struct vhost_blk_info info = { 0 };
    uint64_t features;
    int fd;

    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        error_setg(errp, "cannot open %s: %s%s", path, strerror(errno),
                   errno == ENOENT ? "; is the module loaded (modprobe vhost_blk)?" : "");
        return -1;
    }
    if (ioctl(fd, VHOST_BLK_GET_INFO, &info) < 0) {
        error_setg_errno(errp, errno, "%s is not a vhost-blk device", path);
        goto fail;
    }
    if (info.abi_version != VHOST_BLK_ABI_VERSION) {
        error_setg(errp, "the vhost_blk module has ABI version %u and this device needs %u; install matching versions",
                   info.abi_version, VHOST_BLK_ABI_VERSION);
        goto fail;
    }
    if (queues > info.max_queues) {
        error_setg(errp, "the vhost_blk module serves at most %u queues and this disk has %u", info.max_queues,
                   queues);
        goto fail;
    }
    if (ioctl(fd, VHOST_BLK_SET_QUEUES, &queues) < 0) {
        error_setg_errno(errp, errno, "%s refused %u queues", path, queues);
        goto fail;
    }
    if (ioctl(fd, VHOST_GET_FEATURES, &features) < 0) {
        error_setg_errno(errp, errno, "%s told no features", path);
        goto fail;
    }
    /* QEMU would forbid migration for the whole VM because of one such device. */
    if (!(features & (1ULL << VHOST_F_LOG_ALL))) {
        error_setg(errp, "the vhost_blk module has no dirty log, which migration needs");
        goto fail;
    }

    v->vqs = g_new0(struct vhost_virtqueue, queues);
    v->hdev = (struct vhost_dev) { .nvqs = queues, .vqs = v->vqs };
    /* From here on the descriptor is hdev's, which closes it when its initialization fails. */
    if (vhost_dev_init(&v->hdev, (void *)(uintptr_t)fd, VHOST_BACKEND_TYPE_KERNEL, 0, errp) < 0) {
        g_clear_pointer(&v->vqs, g_free);
        return -1;
    }
    return fd;

fail:
    close(fd);
    return -1;
}

bool vblk_kernel_open(VHostBlk *v)
{
    Error *err = NULL;

    if (v->fd >= 0) {
        return true;
    }
    g_clear_pointer(&v->no_kernel, g_free);
    memset(&v->config, 0, sizeof(v->config));
    v->fd = open_and_init(v, &err);
    if (err) {
        v->no_kernel = g_strdup(error_get_pretty(err));
        error_free(err);
    }
    return v->fd >= 0;
}

static VHostBlkCounters counters_of_descriptor(VHostBlk *v)
{
    VHostBlkCounters sum = { 0 };

    for (unsigned i = 0; v->fd >= 0 && i < v->hdev.nvqs; i++) {
        struct vhost_blk_stats stats = { .queue = i };

        if (ioctl(v->fd, VHOST_BLK_GET_STATS, &stats) < 0) {
            continue;
        }
        sum.running_queues += stats.running;
        sum.requests += stats.reads + stats.writes + stats.flushes + stats.others;
        sum.errors += stats.errors;
    }
    return sum;
}

VHostBlkCounters vblk_kernel_counters(VHostBlk *v)
{
    VHostBlkCounters sum = counters_of_descriptor(v);

    sum.requests += v->past_requests;
    sum.errors += v->past_errors;
    return sum;
}

void vblk_kernel_close(VHostBlk *v)
{
    VHostBlkCounters sum;

    if (v->fd < 0) {
        return;
    }
    sum = counters_of_descriptor(v);
    v->past_requests += sum.requests;
    v->past_errors += sum.errors;
    v->fd = -1;
    vhost_dev_cleanup(&v->hdev);
    g_clear_pointer(&v->vqs, g_free);
}

static void describe_disk(VHostBlk *v, struct vhost_blk_config *config)
{
    VirtIOBlock *s = VIRTIO_BLK(v);
    BlockDriverState *bs = blk_bs(s->blk);
    const char *serial = s->conf.serial ? s->conf.serial : "";
    int64_t length = blk_getlength(s->blk);

    memset(config, 0, sizeof(*config));
    if (!blk_is_writable(s->blk)) {
        config->flags |= VHOST_BLK_CONFIG_READ_ONLY;
    }
    if (!blk_enable_write_cache(s->blk)) {
        config->flags |= VHOST_BLK_CONFIG_WRITETHROUGH;
    }
    config->capacity = length > 0 ? QEMU_ALIGN_DOWN(length, BDRV_SECTOR_SIZE) : 0;
    config->offset = bs == vblk_image_node(v) ? 0 : vblk_raw_format_offset(bs);
    memcpy(config->serial, serial, MIN(strlen(serial), sizeof(config->serial)));
}

bool vblk_kernel_configure(VHostBlk *v, Error **errp)
{
    struct vhost_blk_config config;

    describe_disk(v, &config);
    if (memcmp(&config, &v->config, sizeof(config)) == 0) {
        return true;
    }
    if (ioctl(v->fd, VHOST_BLK_SET_CONFIG, &config) < 0) {
        error_setg_errno(errp, errno, "the kernel refused the disk's configuration (%" PRIu64 " bytes from offset %"
                         PRIu64 ")", (uint64_t)config.capacity, (uint64_t)config.offset);
        return false;
    }
    v->config = config;
    return true;
}

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

    if (!image) {
        error_setg(errp, "the drive is no longer a raw image");
        return false;
    }
    if (!vblk_kernel_configure(v, errp)) {
        return false;
    }
    v->image_fd = vblk_file_posix_fd(image);
    r = set_backends(v, v->image_fd);
    if (r < 0) {
        error_setg_errno(errp, -r, "the kernel refused the image '%s'", image->filename);
        set_backends(v, -1);
        return false;
    }
    v->paused = false;
    kick_all(v);
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
    v->paused = true;
    mark_graph_written(v);
}

bool vblk_kernel_start(VHostBlk *v, Error **errp)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(v);
    int r;

    v->hdev.acked_features = vdev->guest_features & v->hdev.features & ~(1ULL << VHOST_F_LOG_ALL);
    if (!vblk_kernel_configure(v, errp)) {
        return false;
    }
    r = vhost_dev_start(&v->hdev, vdev, false);
    if (r < 0) {
        error_setg_errno(errp, -r, "the kernel refused the guest's rings");
        return false;
    }
    v->paused = true;
    if (!vblk_kernel_resume(v, errp)) {
        vhost_dev_stop(&v->hdev, vdev, false);
        v->paused = false;
        return false;
    }
    v->running = true;
    return true;
}

void vblk_kernel_stop(VHostBlk *v)
{
    vblk_kernel_pause(v);
    if (v->fd >= 0) {
        vhost_dev_stop(&v->hdev, VIRTIO_DEVICE(v), false);
    }
    v->running = false;
    v->paused = false;
}
