/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's side of a disk: /dev/vhost-blk, its events and its configuration.
 * The generic part of the vhost protocol (memory table, dirty log, rings) is QEMU's struct vhost_dev.
 */
#include "vhost-blk.h"
#include <sys/ioctl.h>
#include "block/aio.h"
#include "migration/blocker.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "trace.h"

/* Opens /dev/vhost-blk (or a member of an fd set, by its path), or takes the descriptor that the user handed over. */
static int take_descriptor(VHostBlk *v, const char *path, Error **errp)
{
    Error *err = NULL;
    int fd;

    if (v->vhostfds) {
        if (v->fds_taken) {
            error_setg(errp, "the descriptor that vhostfds gave is closed; set vhostfds to another");
            return -1;
        }
        fd = monitor_fd_param(monitor_cur(), v->vhostfds, errp);
        if (fd >= 0) {
            v->fds_taken = true;
            fcntl(fd, F_SETFD, FD_CLOEXEC);
        }
        return fd;
    }
    fd = qemu_open(path, O_RDWR, &err);
    if (fd < 0) {
        error_setg(errp, "cannot open %s: %s%s", path, strerror(errno),
                   errno == ENOENT ? "; is the module loaded (modprobe vhost_blk)?" : "");
        error_free(err);
    }
    return fd;
}

/*
 * The kernel refuses these two while it holds failed requests. They come from QEMU's core, at the start of a migration and at a
 * change of the memory map, and must not fail: the stopped rings leave the requests to us.
 */
static int set_features(struct vhost_dev *dev, uint64_t features)
{
    VHostBlk *v = container_of(dev, VHostBlk, hdev);
    int r;

    if (!v->use_dirty_log && (features & (1ULL << VHOST_F_LOG_ALL))) {
        return -EOPNOTSUPP;
    }
    r = kernel_ops.vhost_set_features(dev, features);
    if (r == -EBUSY && v->running) {
        vblk_kernel_pause(v);
        vblk_recheck_soon(v);
        r = kernel_ops.vhost_set_features(dev, features);
    }
    return r;
}

static int set_mem_table(struct vhost_dev *dev, struct vhost_memory *mem)
{
    VHostBlk *v = container_of(dev, VHostBlk, hdev);
    int r = kernel_ops.vhost_set_mem_table(dev, mem);

    if (r == -EBUSY && v->running) {
        vblk_kernel_pause(v);
        vblk_recheck_soon(v);
        r = kernel_ops.vhost_set_mem_table(dev, mem);
    }
    return r;
}

/* Runs in nested event loops too: a drain waits for it. */
static void drained(EventNotifier *notifier)
{
    VHostBlk *v = container_of(notifier, VHostBlk, drained);

    event_notifier_test_and_clear(notifier);
    if (v->running && v->resting && vblk_kernel_rested(v)) {
        vblk_recheck_soon(v);
    }
}

/* Runs in the main loop itself. */
static void request_held(EventNotifier *notifier)
{
    VHostBlk *v = container_of(notifier, VHostBlk, held);

    event_notifier_test_and_clear(notifier);
    if (v->running) {
        vblk_kernel_rest(v);
        vblk_recheck(v);
    }
}

static bool listen_to_events(VHostBlk *v, int fd, Error **errp)
{
    struct vhost_blk_event event = { .event = VHOST_BLK_EVENT_DRAINED };
    int r = event_notifier_init(&v->drained, 0);

    if (r < 0) {
        goto fail;
    }
    r = event_notifier_init(&v->held, 0);
    if (r < 0) {
        goto fail_held;
    }
    event.fd = event_notifier_get_fd(&v->drained);
    r = ioctl(fd, VHOST_BLK_SET_EVENT, &event) < 0 ? -errno : 0;
    if (r == 0) {
        event = (struct vhost_blk_event) { VHOST_BLK_EVENT_HELD, event_notifier_get_fd(&v->held) };
        r = ioctl(fd, VHOST_BLK_SET_EVENT, &event) < 0 ? -errno : 0;
    }
    if (r < 0) {
        goto fail_set;
    }
    aio_set_event_notifier(qemu_get_aio_context(), &v->drained, drained, NULL, NULL);
    event_notifier_set_handler(&v->held, request_held);
    return true;

fail_set:
    event_notifier_cleanup(&v->held);
fail_held:
    event_notifier_cleanup(&v->drained);
fail:
    error_setg_errno(errp, -r, "the events of the kernel can't be listened to");
    return false;
}

/* Returns the descriptor of an initialized hdev, or -1. */
static int open_and_init(VHostBlk *v, Error **errp)
{
    VirtIOBlock *s = VIRTIO_BLK(v);
    const char *path = v->vhostdev ? v->vhostdev : "/dev/vhost-blk";
    uint32_t queues = s->conf.num_queues;
    struct vhost_blk_info info = { 0 };
    int fd = take_descriptor(v, path, errp);

    if (fd < 0) {
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

    v->vqs = g_new0(struct vhost_virtqueue, queues);
    v->hdev = (struct vhost_dev) { .nvqs = queues, .vqs = v->vqs };
    /* From here on the descriptor is hdev's, which closes it when its initialization fails. */
    if (vhost_dev_init(&v->hdev, (void *)(uintptr_t)fd, VHOST_BACKEND_TYPE_KERNEL, 0, errp) < 0) {
        monitor_fdset_dup_fd_remove(fd);
        g_clear_pointer(&v->vqs, g_free);
        return -1;
    }
    if (!v->use_dirty_log) {
        v->hdev.features &= ~(1ULL << VHOST_F_LOG_ALL);
    }
    /* A device without a dirty log is out of the kernel while the VM migrates; others need not suffer for it. */
    migrate_del_blocker(&v->hdev.migration_blocker);
    v->ops = kernel_ops;
    v->ops.vhost_set_features = set_features;
    v->ops.vhost_set_mem_table = set_mem_table;
    v->hdev.vhost_ops = &v->ops;
    if (!listen_to_events(v, fd, errp)) {
        monitor_fdset_dup_fd_remove(fd);
        vhost_dev_cleanup(&v->hdev);
        g_clear_pointer(&v->vqs, g_free);
        return -1;
    }
    return fd;

fail:
    monitor_fdset_dup_fd_remove(fd);
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
    } else {
        g_autofree char *name = vblk_name(v);

        trace_vhost_blk_open(v, name, v->fd, v->hdev.nvqs);
    }
    return v->fd >= 0;
}

void vblk_kernel_close(VHostBlk *v)
{
    if (v->fd < 0) {
        return;
    }
    trace_vhost_blk_close(v);
    vblk_counters_keep(v);
    /* The file lives on in its set: whoever opens it next must find it without an owner. */
    if (!v->vhostfds && v->vhostdev && g_str_has_prefix(v->vhostdev, "/dev/fdset/")) {
        RETRY_ON_EINTR(ioctl(v->fd, VHOST_RESET_OWNER));
    }
    aio_set_event_notifier(qemu_get_aio_context(), &v->drained, NULL, NULL, NULL);
    event_notifier_set_handler(&v->held, NULL);
    /* hdev closes what qemu_open has opened: the set, if it is from one, must not count it any more. */
    monitor_fdset_dup_fd_remove(v->fd);
    v->fd = -1;
    vhost_dev_cleanup(&v->hdev);
    event_notifier_cleanup(&v->drained);
    event_notifier_cleanup(&v->held);
    g_clear_pointer(&v->vqs, g_free);
}

void vblk_kernel_let_go(VHostBlk *v)
{
    if (v->asked_off && !v->running && !v->vhostfds) {
        vblk_kernel_close(v);
    }
}

bool vblk_kernel_has_dirty_log(VHostBlk *v)
{
    return v->hdev.features & (1ULL << VHOST_F_LOG_ALL);
}

/* A failed request under "stop", and one that met a full disk under "enospc", is not the guest's to know of. */
static uint32_t hold_flags(BlockBackend *blk)
{
    BlockdevOnError on_write = blk_get_on_error(blk, false);
    uint32_t flags = 0;

    if (blk_get_on_error(blk, true) == BLOCKDEV_ON_ERROR_STOP) {
        flags |= VHOST_BLK_CONFIG_HOLD_READ;
    }
    if (on_write == BLOCKDEV_ON_ERROR_STOP) {
        flags |= VHOST_BLK_CONFIG_HOLD_WRITE;
    } else if (on_write == BLOCKDEV_ON_ERROR_ENOSPC) {
        flags |= VHOST_BLK_CONFIG_HOLD_ENOSPC;
    }
    return flags;
}

/* A flush goes down to the image, whatever the nodes above it say; a discard must be allowed by each of them. */
static uint32_t cache_flags(BlockDriverState *bs, BlockDriverState *image)
{
    uint32_t flags = 0;

    if (image->open_flags & BDRV_O_NO_FLUSH) {
        flags |= VHOST_BLK_CONFIG_NO_FLUSH;
    }
    if (!(bs->open_flags & image->open_flags & BDRV_O_UNMAP)) {
        flags |= VHOST_BLK_CONFIG_NO_UNMAP;
    }
    return flags;
}

static void describe_disk(VHostBlk *v, struct vhost_blk_config *config)
{
    VirtIOBlock *s = VIRTIO_BLK(v);
    BlockDriverState *bs = blk_bs(s->blk);
    BlockDriverState *image = vblk_image_node(v);
    const char *serial = s->conf.serial ? s->conf.serial : "";
    int64_t length = blk_getlength(s->blk);

    memset(config, 0, sizeof(*config));
    config->flags = hold_flags(s->blk) | cache_flags(bs, image);
    if (!blk_is_writable(s->blk)) {
        config->flags |= VHOST_BLK_CONFIG_READ_ONLY;
    }
    if (!blk_enable_write_cache(s->blk)) {
        config->flags |= VHOST_BLK_CONFIG_WRITETHROUGH;
    }
    config->capacity = length > 0 ? QEMU_ALIGN_DOWN(length, BDRV_SECTOR_SIZE) : 0;
    config->offset = bs == image ? 0 : vblk_raw_format_offset(bs);
    memcpy(config->serial, serial, MIN(strlen(serial), sizeof(config->serial)));
}

bool vblk_kernel_configure(VHostBlk *v, Error **errp)
{
    struct vhost_blk_config config;

    if (!vblk_image_node(v)) {
        error_setg(errp, "the drive is no longer a raw image");
        return false;
    }
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
    trace_vhost_blk_configure(v, config.capacity, config.offset, config.flags);
    return true;
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
    trace_vhost_blk_start(v);
    return true;
}

void vblk_kernel_stop(VHostBlk *v)
{
    vblk_kernel_pause(v);
    vblk_account(v);
    if (v->fd >= 0) {
        vhost_dev_stop(&v->hdev, VIRTIO_DEVICE(v), false);
    }
    v->running = false;
    v->paused = false;
    trace_vhost_blk_stop(v);
}
