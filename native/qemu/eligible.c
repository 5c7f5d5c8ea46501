/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * May the kernel serve this disk? Whatever the block layer does for a request on its way to the image, the kernel
 * doesn't: a disk that needs any of it is served by QEMU. Every "no" comes with its reason in words.
 */
#include "vhost-blk.h"
#include "block/block_int.h"
#include "block/dirty-bitmap.h"
#include "block/throttle-groups.h"
#include "qapi/error.h"
#include "qapi/qapi-types-block-core.h"
#include "system/kvm.h"

static const struct {
    unsigned bit;
    const char *name;
} feature_names[] = {
    { VIRTIO_F_RING_PACKED, "the packed ring" },
    { VIRTIO_F_IOMMU_PLATFORM, "an IOMMU" },
    { VIRTIO_F_IN_ORDER, "in-order completion" },
    { VIRTIO_F_NOTIFICATION_DATA, "notification data" },
    { VIRTIO_BLK_F_FLUSH, "flush" },
    { VIRTIO_BLK_F_DISCARD, "discard" },
    { VIRTIO_BLK_F_WRITE_ZEROES, "write zeroes" },
    { VIRTIO_BLK_F_ZONED, "zones" },
};

uint64_t vblk_own_features(void)
{
    return 1ULL << VIRTIO_BLK_F_SIZE_MAX | 1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_GEOMETRY |
           1ULL << VIRTIO_BLK_F_RO | 1ULL << VIRTIO_BLK_F_BLK_SIZE | 1ULL << VIRTIO_BLK_F_TOPOLOGY |
           1ULL << VIRTIO_BLK_F_CONFIG_WCE | 1ULL << VIRTIO_BLK_F_MQ |
           /* Offered to legacy guests only; such a request is answered "unsupported" on both datapaths. */
           1ULL << VIRTIO_BLK_F_SCSI |
           /* A transport feature: QEMU resets a queue, see queue_was_reset. */
           1ULL << VIRTIO_F_RING_RESET;
}

BlockDriverState *vblk_image_node(VHostBlk *v)
{
    BlockDriverState *bs = blk_bs(VIRTIO_BLK(v)->conf.conf.blk);

    GRAPH_RDLOCK_GUARD_MAINLOOP();
    if (bs && bs->drv && g_str_equal(bs->drv->format_name, "raw")) {
        bs = bs->file ? bs->file->bs : NULL;
    }
    if (!bs || !bs->drv) {
        return NULL;
    }
    if (!g_str_equal(bs->drv->format_name, "file") && !g_str_equal(bs->drv->format_name, "host_device")) {
        return NULL;
    }
    return bs;
}

/* A failed request is reported or held, see held.c; nobody but QEMU can call it a success. */
static char *why_error_policy(BlockBackend *blk)
{
    BlockdevOnError on_read = blk_get_on_error(blk, true);
    BlockdevOnError on_write = blk_get_on_error(blk, false);

    if (on_read != BLOCKDEV_ON_ERROR_REPORT && on_read != BLOCKDEV_ON_ERROR_STOP) {
        return g_strdup_printf("the kernel can't follow rerror=%s", BlockdevOnError_str(on_read));
    }
    if (on_write == BLOCKDEV_ON_ERROR_IGNORE) {
        return g_strdup("the kernel can't follow werror=ignore");
    }
    return NULL;
}

char *vblk_why_never(VHostBlk *v)
{
    BlockBackend *blk = VIRTIO_BLK(v)->conf.conf.blk;
    BlockDriverState *bs = blk_bs(blk);
    BlockDriverState *image = vblk_image_node(v);

    if (v->vhost == ON_OFF_AUTO_OFF) {
        return g_strdup("vhost=off");
    }
    if (!kvm_enabled()) {
        return g_strdup("the VM runs without KVM");
    }
    if (!bs) {
        return g_strdup("the drive is empty");
    }
    if (!image) {
        return g_strdup_printf("the drive's node '%s' has driver '%s'; only raw images in files and host devices are "
                               "served by the kernel", bdrv_get_node_name(bs), bs->drv ? bs->drv->format_name : "");
    }
    if (image->sg) {
        return g_strdup("the drive is a SCSI generic device");
    }
    if (bs->bl.zoned != BLK_Z_NONE) {
        return g_strdup("the drive is a zoned device");
    }
    return why_error_policy(blk);
}

/* What stands on @bs, apart from the one child that the disk itself reaches it by. */
static char *why_node(BlockDriverState *bs, const BdrvChild *own)
{
    const char *name = bdrv_get_node_name(bs);
    BdrvChild *parent;

    GRAPH_RDLOCK_GUARD_MAINLOOP();
    if (qatomic_read(&bs->copy_on_read)) {
        return g_strdup_printf("node '%s' does copy-on-read", name);
    }
    if (!QLIST_EMPTY(&bs->dirty_bitmaps)) {
        return g_strdup_printf("node '%s' has a dirty bitmap", name);
    }
    if (bs->detect_zeroes != BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF) {
        return g_strdup_printf("node '%s' detects zeroes", name);
    }
    if (bs->write_threshold_offset) {
        return g_strdup_printf("node '%s' has a write threshold", name);
    }
    QLIST_FOREACH(parent, &bs->parents, next_parent) {
        if (parent != own) {
            g_autofree char *user = parent->klass->get_parent_desc(parent);

            return g_strdup_printf("node '%s' is also in use by %s", name, user);
        }
    }
    return NULL;
}

static char *why_graph(VHostBlk *v)
{
    VirtIOBlock *s = VIRTIO_BLK(v);
    BlockDriverState *bs = blk_bs(s->blk);
    BlockDriverState *image = vblk_image_node(v);
    char *why = why_node(bs, blk_root(s->blk));

    GRAPH_RDLOCK_GUARD_MAINLOOP();
    if (!why && image != bs) {
        why = why_node(image, bs->file);
    }
    return why;
}

/* The image is another QEMU's for now: where a VM is awaited, and at the source once it has left. */
static char *why_inactive(VHostBlk *v)
{
    BlockDriverState *nodes[] = { blk_bs(VIRTIO_BLK(v)->blk), vblk_image_node(v) };

    GRAPH_RDLOCK_GUARD_MAINLOOP();
    for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
        if (nodes[i]->open_flags & BDRV_O_INACTIVE) {
            return g_strdup_printf("node '%s' is inactive", bdrv_get_node_name(nodes[i]));
        }
    }
    return NULL;
}

static char *why_negotiated(VHostBlk *v)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(v);
    uint64_t missing = vdev->guest_features & ~(v->hdev.features | vblk_own_features());

    /* Bit 33 would be vhost's software IOTLB, bit 26 its dirty log: never the guest's to choose here. */
    missing |= vdev->guest_features & (1ULL << VIRTIO_F_IOMMU_PLATFORM | 1ULL << VIRTIO_F_RING_PACKED);
    for (size_t i = 0; i < ARRAY_SIZE(feature_names); i++) {
        if (missing & (1ULL << feature_names[i].bit)) {
            return g_strdup_printf("the guest negotiated %s, which the kernel doesn't serve", feature_names[i].name);
        }
    }
    if (missing) {
        return g_strdup_printf("the guest negotiated features that the kernel doesn't serve (0x%" PRIx64 ")", missing);
    }
    return NULL;
}

char *vblk_why_userspace(VHostBlk *v)
{
    VirtIOBlock *s = VIRTIO_BLK(v);
    VirtIODevice *vdev = VIRTIO_DEVICE(v);
    char *why = vblk_why_never(v);

    if (why) {
        return why;
    }
    if (v->asked_off) {
        return g_strdup("vhost-active was set to false");
    }
    if (v->fd < 0) {
        return g_strdup(v->no_kernel ? v->no_kernel : "the kernel's device is not open");
    }
    if (v->failure) {
        return g_strdup(v->failure);
    }
    if (!virtio_device_ioeventfd_enabled(vdev)) {
        return g_strdup("the device has no ioeventfd");
    }
    if (!vblk_kernel_has_dirty_log(v) && (v->migrating || v->hdev.log_enabled)) {
        return g_strdup("the VM is migrating, and the vhost_blk module has no dirty log");
    }
    if (v->queue_was_reset) {
        return g_strdup("the guest has reset a single queue");
    }
    if (qatomic_read(&s->rq)) {
        return g_strdup("failed requests wait to be tried again");
    }
    if (blk_get_public(s->blk)->throttle_group_member.throttle_state) {
        return g_strdup("the disk is throttled");
    }
    why = why_negotiated(v);
    if (!why) {
        why = why_graph(v);
    }
    if (why) {
        return why;
    }
    if (blk_in_drain(s->blk) && !v->running) {
        return g_strdup("the block layer is draining the disk");
    }
    /* Last, since a QEMU that waits for its VM ends it by itself: a manager sees beforehand what will stand against it then. */
    return why_inactive(v);
}
