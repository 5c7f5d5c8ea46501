/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every difference between QEMU versions, and everything that reaches into a QEMU structure without a public accessor.
 * The rest of the device reads as if written for the newest of them. Tested with 10.0; with 10.2 it compiles.
 *
 * The layouts assumed here are compared with the sources at build time (see check_layouts in "build").
 */
#ifndef VHOST_BLK_COMPAT_H
#define VHOST_BLK_COMPAT_H

#include "qemu/osdep.h"
#include "block/block_int.h"
#include "hw/virtio/virtio-blk.h"
#include "hw/virtio/virtio-bus.h"
#include "hw/virtio/virtio-pci.h"
#include "qom/object.h"

#define VBLK_QEMU_VERSION (QEMU_VERSION_MAJOR * 100 + QEMU_VERSION_MINOR)

#if VBLK_QEMU_VERSION != 1000 && VBLK_QEMU_VERSION != 1002
#error "this device is written for QEMU 10.0 and 10.2; other versions need their differences in compat.h"
#endif

#if VBLK_QEMU_VERSION < 1002
/* The second argument of a class_init function. */
typedef void *VHostBlkClassData;

/* A class's set_status tells no outcome. */
#define VBLK_DEFINE_SET_STATUS(name, function) \
    static void name(VirtIODevice *vdev, uint8_t status) \
    { \
        function(vdev, status); \
    }

static inline int vblk_set_status_of(VirtioDeviceClass *vdc, VirtIODevice *vdev, uint8_t status)
{
    vdc->set_status(vdev, status);
    return 0;
}
#else
typedef const void *VHostBlkClassData;

#define VBLK_DEFINE_SET_STATUS(name, function) \
    static int name(VirtIODevice *vdev, uint8_t status) \
    { \
        return function(vdev, status); \
    }

/* 0 or a negative errno, of the stop that a status may mean. */
static inline int vblk_set_status_of(VirtioDeviceClass *vdc, VirtIODevice *vdev, uint8_t status)
{
    return vdc->set_status(vdev, status);
}
#endif

/**
 * The descriptor that QEMU's file-posix driver ("file" and "host_device") has open for a node.
 * It belongs to the driver and may be another after any reopen or permission change: read it anew at each use.
 */
static inline int vblk_file_posix_fd(BlockDriverState *bs)
{
    return *(int *)bs->opaque;
}

/** Where the disk of a node of the raw format begins in its file, in bytes. */
static inline uint64_t vblk_raw_format_offset(BlockDriverState *bs)
{
    return *(uint64_t *)bs->opaque;
}

/**
 * Tells the block layer that a node was written to by someone else. Without it the next flush of the node is skipped,
 * because QEMU remembers that nothing was written since the last one.
 */
static inline void vblk_mark_written(BlockDriverState *bs)
{
    qatomic_inc(&bs->write_gen);
}

/**
 * Counts a request of a split ring as popped by QEMU, though it was the kernel that took it from the ring. The count of a queue
 * has no accessor; detaching an element takes the element's share from it, here minus one.
 */
static inline void vblk_count_as_popped(VirtQueue *vq)
{
    const VirtQueueElement none = { .ndescs = -1u };

    virtqueue_detach_element(vq, &none, 0);
}

/** Size of the instances of the type that @klass describes, in bytes, as the running binary has it. */
static inline size_t vblk_instance_size(ObjectClass *klass)
{
    struct {
        const char *name;
        size_t class_size;
        size_t instance_size;
    } *type = *(void **)klass;

    return type->instance_size;
}

/** Offset of the named property of a device class in its instances, or -1. */
static inline ptrdiff_t vblk_property_offset(DeviceClass *dc, const char *name)
{
    for (size_t i = 0; i < dc->props_count_; i++) {
        if (g_str_equal(dc->props_[i].name, name)) {
            return dc->props_[i].offset;
        }
    }
    return -1;
}

#endif
