/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-blk: a virtio-blk disk whose requests the host kernel serves while it may.
 *
 * The guest always sees plain virtio-blk. The kernel (/dev/vhost-blk) is an accelerator: it is used while the disk is
 * eligible, and whatever stands against it means that QEMU's own virtio-blk serves instead.
 */
#ifndef VHOST_BLK_H
#define VHOST_BLK_H

#include "compat.h"
#include "hw/virtio/vhost.h"
#include "qapi/qapi-types-common.h"
#include "vhost_blk_abi.h"

#define TYPE_VHOST_BLK "vhost-blk"
OBJECT_DECLARE_SIMPLE_TYPE(VHostBlk, VHOST_BLK)

/* All fields are protected by the BQL. */
struct VHostBlk {
    VirtIOBlock parent_obj;

    /* properties */
    OnOffAuto vhost;
    char *vhostdev;
    bool asked_off; /* vhost-active was set to false */

    /* the kernel's side: kernel.c */
    int fd; /* of vhostdev, -1: not open */
    struct vhost_dev hdev;
    struct vhost_virtqueue *vqs;
    struct vhost_blk_config config; /* as last given to the kernel */
    int image_fd;                   /* as last bound; for comparison only */
    bool running;                   /* the kernel has the rings */
    bool paused;                    /* ... and no backend is bound to them */
    uint64_t past_requests;         /* completed on descriptors that are closed by now */
    uint64_t past_errors;

    /* choice of the datapath: switch.c, eligible.c */
    bool starting;
    bool switching;       /* in start or stop: the drains within are our own */
    bool queue_was_reset; /* the guest reset one queue alone; until the device is reset */
    char *no_kernel;      /* why vhostdev is not open */
    char *failure;        /* the kernel's refusal to start; not tried again until something changes */
    QEMUBH *recheck_bh;
    QEMUTimer *recheck_timer;
    QLIST_ENTRY(VHostBlk) next;
};

/* Sums over the queues; see struct vhost_blk_stats. */
typedef struct VHostBlkCounters {
    unsigned running_queues;
    uint64_t requests;
    uint64_t errors;
} VHostBlkCounters;

/* kernel.c */

/**
 * Opens vhostdev, checks its ABI and takes ownership; if it fails, no_kernel says why. Nothing to do if it is open.
 */
bool vblk_kernel_open(VHostBlk *v);
/** Closes the descriptor, which ends all that the kernel does for this disk, and keeps the sums of its counters. */
void vblk_kernel_close(VHostBlk *v);
/** Hands the rings to the kernel. Host and guest notifiers must be set. */
bool vblk_kernel_start(VHostBlk *v, Error **errp);
/** Takes the rings back; every request that the kernel had taken is completed. */
void vblk_kernel_stop(VHostBlk *v);
/** Takes the backend from all rings of a started device and waits for the requests in flight. */
void vblk_kernel_pause(VHostBlk *v);
/** Undoes vblk_kernel_pause, with the configuration and the image descriptor of now. */
bool vblk_kernel_resume(VHostBlk *v, Error **errp);
/** Gives the kernel what changed in capacity, offset, serial, access and write cache. */
bool vblk_kernel_configure(VHostBlk *v, Error **errp);
/** Counters since realize; running_queues is asked from the kernel. */
VHostBlkCounters vblk_kernel_counters(VHostBlk *v);

/* eligible.c */

/** Negotiated features that the kernel doesn't need to know: they concern the configuration space or the transport. */
uint64_t vblk_own_features(void);
/**
 * Why the kernel can't serve this disk whatever the guest does: the host's means and the drive's kind.
 * Returns words to be freed by the caller, or NULL.
 */
char *vblk_why_never(VHostBlk *v);
/** Why the kernel must not serve this disk now; words to be freed by the caller, or NULL. */
char *vblk_why_userspace(VHostBlk *v);
/** The node that has the image's descriptor, or NULL if the graph isn't [raw format on] file-posix. */
BlockDriverState *vblk_image_node(VHostBlk *v);

/* switch.c */

int vblk_start_ioeventfd(VirtIODevice *vdev);
void vblk_stop_ioeventfd(VirtIODevice *vdev);
/** Serves from where the disk is to be served now: pauses, resumes or switches as needed. Not within a drain. */
void vblk_recheck(VHostBlk *v);
/** Has vblk_recheck done from the main loop, soon and outside of any nested event loop. */
void vblk_recheck_soon(VHostBlk *v);
/** Stops and starts the datapath if the guest uses the disk; the start chooses anew. */
void vblk_restart_datapath(VHostBlk *v);
/** Installs the callbacks of drain and resize, the timer and the bottom half. */
void vblk_switch_init(VHostBlk *v);
void vblk_switch_cleanup(VHostBlk *v);

/* intercept.c */

/** From now on monitor commands that the kernel must not bypass find the disk's rings at rest. */
void vblk_intercept_add(VHostBlk *v);
void vblk_intercept_remove(VHostBlk *v);

/* device.c */

/** The methods of virtio-blk-device, which this type wraps. */
extern VirtioDeviceClass *vblk_parent_class;
/** The id that the user gave the disk, or its QOM path; to be freed by the caller. */
char *vblk_name(VHostBlk *v);
void vblk_register_device_type(void);

/* pci.c */

void vblk_register_pci_types(void);

#endif
