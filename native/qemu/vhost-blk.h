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
#include "hw/virtio/vhost-backend.h"
#include "qemu/event_notifier.h"
#include "qapi/qapi-types-common.h"
#include "vhost_blk_abi.h"

#define TYPE_VHOST_BLK "vhost-blk"
OBJECT_DECLARE_SIMPLE_TYPE(VHostBlk, VHOST_BLK)

/* Sums over the queues; see struct vhost_blk_stats and struct vhost_blk_latency. */
typedef struct VHostBlkCounters {
    uint64_t requests;
    uint64_t errors;
    uint64_t reads;
    uint64_t writes;
    uint64_t flushes;
    uint64_t discards;
    uint64_t write_zeroes;
    uint64_t read_bytes;
    uint64_t write_bytes;
    uint64_t discard_bytes;
    uint64_t time_ns[VHOST_BLK_LATENCY_TYPES];
    /* Of now, not sums over time; 0 when the descriptor is closed. */
    uint64_t running_queues;
    uint64_t inflight;
    uint64_t held;
} VHostBlkCounters;

/* All fields are protected by the BQL. */
struct VHostBlk {
    VirtIOBlock parent_obj;

    /* properties */
    OnOffAuto vhost;
    char *vhostdev;
    char *vhostfds;
    bool use_dirty_log;
    bool asked_off; /* vhost-active was set to false */

    /* the kernel's side: kernel.c, rings.c */
    int fd;         /* of vhostdev or vhostfds, -1: not open */
    bool fds_taken; /* vhostfds is ours, or was */
    struct vhost_dev hdev;
    VhostOps ops; /* hdev's, with some of ours */
    EventNotifier drained;
    EventNotifier held;
    struct vhost_virtqueue *vqs;
    struct vhost_blk_config config; /* as last given to the kernel */
    int image_fd;                   /* as last bound; for comparison only */
    bool running;                   /* the kernel has the rings */
    bool resting;                   /* ... and fetches nothing more; what it fetched is awaited */
    bool paused;                    /* ... and no backend is bound to them; nothing is in flight */
    bool flush_due;                 /* the guest turned its write cache off */

    /* account.c */
    VHostBlkCounters past;      /* of descriptors that are closed by now */
    VHostBlkCounters accounted; /* what the drive's statistics have got */

    /* choice of the datapath: switch.c, eligible.c */
    bool starting;
    bool switching;       /* in start or stop: the drains within are our own */
    bool queue_was_reset; /* the guest reset one queue alone; until the device is reset */
    bool migrating;       /* out of here, from setup to the end */
    NotifierWithReturn migration_notifier;
    char *no_kernel;      /* why vhostdev is not open */
    OnOffAuto announced;  /* the datapath in the last event; auto: none yet */
    char *failure;        /* the kernel's refusal to start; not tried again until something changes */
    QEMUBH *recheck_bh;
    QEMUTimer *recheck_timer;
    QLIST_ENTRY(VHostBlk) next;
};

/* kernel.c */

/**
 * Opens vhostdev, checks its ABI and takes ownership; if it fails, no_kernel says why. Nothing to do if it is open.
 */
bool vblk_kernel_open(VHostBlk *v);
/** Closes the descriptor, which ends all that the kernel does for this disk, and keeps the sums of its counters. */
void vblk_kernel_close(VHostBlk *v);
/**
 * Closes the descriptor if userspace serves because the user wants it so: the module may then be removed. A descriptor that the
 * user handed over can't be opened again, so it is closed when the user replaces it.
 */
void vblk_kernel_let_go(VHostBlk *v);
/** Hands the rings to the kernel. Host and guest notifiers must be set. */
bool vblk_kernel_start(VHostBlk *v, Error **errp);
/** Takes the rings back; every request that the kernel had taken is completed, or in the parent's retry queue. Waits. */
void vblk_kernel_stop(VHostBlk *v);
/** Gives the kernel what changed in capacity, offset, serial, access, write cache and error policy. */
bool vblk_kernel_configure(VHostBlk *v, Error **errp);
/** Whether the kernel can log what it writes to guest memory, which a migration needs while it serves. */
bool vblk_kernel_has_dirty_log(VHostBlk *v);

/* rings.c */

/** Tells the kernel to fetch nothing more, and doesn't wait. It is paused at once if nothing is in flight. */
void vblk_kernel_rest(VHostBlk *v);
/** Completes a rest if nothing is in flight any more. Returns false while something is. */
bool vblk_kernel_rested(VHostBlk *v);
/** Waits for what is in flight, but no longer than @ms milliseconds. Returns false if something still is. */
bool vblk_kernel_await_rest(VHostBlk *v, int64_t ms);
/** Takes the backend from all rings of a started device and waits for the requests in flight. */
void vblk_kernel_pause(VHostBlk *v);
/** Undoes vblk_kernel_pause, with the configuration and the image descriptor of now. */
bool vblk_kernel_resume(VHostBlk *v, Error **errp);

/* held.c */

/**
 * Moves the failed requests that the kernel has held, and that its stopped rings left to us, to the parent's retry queue,
 * and has the VM stopped for them, as virtio-blk does with a request that fails under the same policy.
 */
void vblk_take_held(VHostBlk *v);

/* account.c */

/** Counters since realize. */
VHostBlkCounters vblk_counters(VHostBlk *v);
/** To be called before the descriptor is closed: keeps its sums. */
void vblk_counters_keep(VHostBlk *v);
/** Adds what the kernel has done since the last call to the drive's statistics (query-blockstats). */
void vblk_account(VHostBlk *v);

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
/** Leaves the kernel datapath for a reason that vblk_why_userspace tells; if storage is slow, some time after the return. */
void vblk_leave_kernel(VHostBlk *v);
/** Installs the callbacks of drain, resize and migration, the timer and the bottom half. */
void vblk_switch_init(VHostBlk *v);
void vblk_switch_cleanup(VHostBlk *v);

/* event.c */

/** Tells managers and the trace who serves, if it is another than last told. To be called after a start. */
void vblk_announce_datapath(VHostBlk *v);

/* intercept.c */

/** From now on monitor commands that the kernel must not bypass find the disk's rings at rest. */
void vblk_intercept_add(VHostBlk *v);
void vblk_intercept_remove(VHostBlk *v);
/** Has the kernel fetch nothing more for any disk: they drain side by side when the VM stops. */
void vblk_rest_all(void);

/* device.c */

/** The methods of virtio-blk-device, which this type wraps. */
extern VirtioDeviceClass *vblk_parent_class;
/** The id that the user gave the disk, or its QOM path; to be freed by the caller. */
char *vblk_name(VHostBlk *v);
void vblk_register_device_type(void);

/* pci.c */

void vblk_register_pci_types(void);

/* plugin-trace.c */

void vblk_register_trace_events(void);

#endif
