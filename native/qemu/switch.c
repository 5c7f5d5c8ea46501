/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which datapath serves, and the way from one to the other.
 *
 *                 start, eligible             drained_begin
 *     stopped ---------------------> kernel ----------------> kernel, paused
 *        |  \                          ^ |                         |
 *        |   \ start, not eligible     | | vblk_recheck            | vblk_recheck after drained_end:
 *        |    v                        | v                         v   resumes, or goes to userspace
 *        +--- userspace <--------------+-+-------------------------+
 *
 * The virtio bus calls start and stop; a switch is a stop and a start under the BQL, and the start chooses.
 * The re-check runs only from the main loop itself: in a nested event loop (a drain's, for one) it could find the parent
 * in the middle of its own stop.
 */
#include "vhost-blk.h"
#include "block/aio.h"
#include "migration/misc.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "system/runstate.h"

/* What drain doesn't announce (throttling, bitmaps, a new descriptor) is seen no later than this, in milliseconds. */
#define RECHECK_INTERVAL 1000

/* How long the monitor is kept waiting for requests in flight before a switch goes on without it, in milliseconds. */
#define PATIENCE 100

static VirtioBusState *bus_of(VHostBlk *v)
{
    return VIRTIO_BUS(qdev_get_parent_bus(DEVICE(v)));
}

static void clear_host_notifiers(VHostBlk *v, unsigned count)
{
    memory_region_transaction_begin();
    for (unsigned i = 0; i < count; i++) {
        virtio_bus_set_host_notifier(bus_of(v), i, false);
    }
    /* The eventfds must be open until the transaction commits. */
    memory_region_transaction_commit();
    for (unsigned i = 0; i < count; i++) {
        virtio_bus_cleanup_host_notifier(bus_of(v), i);
    }
}

static int set_host_notifiers(VHostBlk *v, unsigned count)
{
    unsigned i;
    int r = 0;

    memory_region_transaction_begin();
    for (i = 0; i < count; i++) {
        r = virtio_bus_set_host_notifier(bus_of(v), i, true);
        if (r < 0) {
            break;
        }
    }
    memory_region_transaction_commit();
    if (r < 0) {
        clear_host_notifiers(v, i);
    }
    return r;
}

static bool start_kernel(VHostBlk *v, Error **errp)
{
    unsigned count = VIRTIO_BLK(v)->conf.num_queues;
    DeviceState *proxy = DEVICE(BUS(bus_of(v))->parent);
    VirtioBusClass *k = VIRTIO_BUS_GET_CLASS(bus_of(v));
    int r;

    if (!k->set_guest_notifiers) {
        error_setg(errp, "the transport has no guest notifiers");
        return false;
    }
    r = k->set_guest_notifiers(proxy, count, true);
    if (r < 0) {
        error_setg_errno(errp, -r, "cannot set the guest notifiers");
        return false;
    }
    r = set_host_notifiers(v, count);
    if (r < 0) {
        error_setg_errno(errp, -r, "cannot set the host notifiers");
        goto fail_guest_notifiers;
    }
    if (!vblk_kernel_start(v, errp)) {
        goto fail_host_notifiers;
    }
    return true;

fail_host_notifiers:
    clear_host_notifiers(v, count);
fail_guest_notifiers:
    k->set_guest_notifiers(proxy, count, false);
    return false;
}

static void stop_kernel(VHostBlk *v)
{
    unsigned count = VIRTIO_BLK(v)->conf.num_queues;
    DeviceState *proxy = DEVICE(BUS(bus_of(v))->parent);

    vblk_kernel_stop(v);
    clear_host_notifiers(v, count);
    VIRTIO_BUS_GET_CLASS(bus_of(v))->set_guest_notifiers(proxy, count, false);
}

static void remember_failure(VHostBlk *v, Error *err)
{
    g_autofree char *name = vblk_name(v);

    g_free(v->failure);
    v->failure = g_strdup(error_get_pretty(err));
    error_free(err);
    warn_report("vhost-blk disk '%s' is served from userspace: %s", name, v->failure);
}

/* Returns false if userspace is to start instead. */
static bool start_kernel_if_eligible(VHostBlk *v)
{
    g_autofree char *never = vblk_why_never(v);
    g_autofree char *why = NULL;
    Error *err = NULL;
    bool started;

    if (!never && !v->asked_off) {
        vblk_kernel_open(v);
    }
    why = vblk_why_userspace(v);
    if (why) {
        return false;
    }
    v->starting = true;
    started = start_kernel(v, &err);
    v->starting = false;
    if (!started) {
        remember_failure(v, err);
    }
    return started;
}

int vblk_start_ioeventfd(VirtIODevice *vdev)
{
    VHostBlk *v = VHOST_BLK(vdev);
    int r = 0;

    /* The notifiers are born signalled, and clearing them on a failure handles that as a kick, which starts again. */
    if (v->running || v->starting) {
        return 0;
    }
    v->switching = true;
    if (!start_kernel_if_eligible(v)) {
        r = vblk_parent_class->start_ioeventfd(vdev);
    }
    v->switching = false;
    vblk_announce_datapath(v);
    return r;
}

void vblk_stop_ioeventfd(VirtIODevice *vdev)
{
    VHostBlk *v = VHOST_BLK(vdev);

    v->switching = true;
    if (!runstate_is_running()) {
        vblk_rest_all();
    }
    if (v->running) {
        stop_kernel(v);
        vblk_kernel_let_go(v);
    } else {
        vblk_parent_class->stop_ioeventfd(vdev);
    }
    v->switching = false;
}

void vblk_restart_datapath(VHostBlk *v)
{
    if (bus_of(v)->ioeventfd_started) {
        virtio_bus_stop_ioeventfd(bus_of(v));
        virtio_bus_start_ioeventfd(bus_of(v));
    }
}

/* The kernel has the rings and may keep them: brings it up to date. */
static void refresh_kernel(VHostBlk *v)
{
    Error *err = NULL;
    bool ok;

    if (!v->paused && v->image_fd != vblk_file_posix_fd(vblk_image_node(v))) {
        vblk_kernel_rest(v);
        if (!v->paused) {
            return;
        }
    }
    ok = v->paused ? vblk_kernel_resume(v, &err) : vblk_kernel_configure(v, &err);
    if (!ok) {
        remember_failure(v, err);
        vblk_leave_kernel(v);
    }
}

void vblk_leave_kernel(VHostBlk *v)
{
    vblk_kernel_rest(v);
    if (vblk_kernel_await_rest(v, PATIENCE)) {
        vblk_restart_datapath(v);
    }
}

void vblk_recheck(VHostBlk *v)
{
    g_autofree char *why = NULL;

    /* The end of a drain asks again. */
    if (v->switching || !bus_of(v)->ioeventfd_started || blk_in_drain(VIRTIO_BLK(v)->blk)) {
        return;
    }
    /* And so does the end of a rest. */
    if (v->running && !vblk_kernel_rested(v)) {
        return;
    }
    why = vblk_why_userspace(v);
    if (v->running && !why) {
        refresh_kernel(v);
    } else if (v->running) {
        vblk_leave_kernel(v);
    } else if (!why) {
        vblk_restart_datapath(v);
    }
}

static void recheck_bh(void *opaque)
{
    vblk_recheck(opaque);
}

static void recheck_timer(void *opaque)
{
    VHostBlk *v = opaque;

    vblk_account(v);
    vblk_recheck(v);
    timer_mod(v->recheck_timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + RECHECK_INTERVAL);
}

void vblk_recheck_soon(VHostBlk *v)
{
    if (v->recheck_bh) {
        qemu_bh_schedule(v->recheck_bh);
    }
}

static void drained_begin(void *opaque)
{
    VHostBlk *v = opaque;
    VirtIOBlock *s = VIRTIO_BLK(v);

    if (v->running) {
        vblk_kernel_rest(v);
    } else if (s->ioeventfd_started) {
        for (unsigned i = 0; i < s->conf.num_queues; i++) {
            virtio_queue_aio_detach_host_notifier(virtio_get_queue(VIRTIO_DEVICE(v), i), s->vq_aio_context[i]);
        }
    }
}

/* The eventfd that tells the end of a rest is in the context that a drain polls. */
static bool drained_poll(void *opaque)
{
    VHostBlk *v = opaque;

    return v->running && !vblk_kernel_rested(v);
}

static void drained_end(void *opaque)
{
    VHostBlk *v = opaque;
    VirtIOBlock *s = VIRTIO_BLK(v);

    if (!v->running && s->ioeventfd_started) {
        for (unsigned i = 0; i < s->conf.num_queues; i++) {
            virtio_queue_aio_attach_host_notifier(virtio_get_queue(VIRTIO_DEVICE(v), i), s->vq_aio_context[i]);
        }
    }
    /* A drain surrounds every change of the graph: what the kernel refused may be possible now. */
    if (!v->switching) {
        g_clear_pointer(&v->failure, g_free);
        vblk_recheck_soon(v);
    }
}

static void resized_bh(void *opaque)
{
    VHostBlk *v = opaque;

    if (DEVICE(v)->realized) {
        virtio_notify_config(VIRTIO_DEVICE(v));
        vblk_recheck_soon(v);
    }
    object_unref(OBJECT(v));
}

/* May run in any thread. */
static void resized(void *opaque)
{
    object_ref(OBJECT(opaque));
    aio_bh_schedule_oneshot(qemu_get_aio_context(), resized_bh, opaque);
}

static const BlockDevOps block_ops = {
    .resize_cb = resized,
    .drained_begin = drained_begin,
    .drained_end = drained_end,
    .drained_poll = drained_poll,
};

/* Without a dirty log, what the kernel writes to guest memory would be missing at the destination. */
static int migration_event(NotifierWithReturn *notifier, MigrationEvent *event, Error **errp)
{
    VHostBlk *v = container_of(notifier, VHostBlk, migration_notifier);

    v->migrating = event->type == MIG_EVENT_PRECOPY_SETUP;
    if (v->migrating && v->running && !vblk_kernel_has_dirty_log(v)) {
        vblk_restart_datapath(v);
    } else {
        vblk_recheck_soon(v);
    }
    return 0;
}

void vblk_switch_init(VHostBlk *v)
{
    /* The I/O handlers' context is served by the main loop alone, never by a nested one. */
    v->recheck_bh = aio_bh_new(iohandler_get_aio_context(), recheck_bh, v);
    v->recheck_timer = timer_new_ms(QEMU_CLOCK_REALTIME, recheck_timer, v);
    timer_mod(v->recheck_timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + RECHECK_INTERVAL);
    blk_set_dev_ops(VIRTIO_BLK(v)->blk, &block_ops, v);
    migration_add_notifier(&v->migration_notifier, (MigrationNotifyFunc)migration_event);
}

void vblk_switch_cleanup(VHostBlk *v)
{
    migration_remove_notifier(&v->migration_notifier);
    g_clear_pointer(&v->recheck_bh, qemu_bh_delete);
    g_clear_pointer(&v->recheck_timer, timer_free);
    g_clear_pointer(&v->failure, g_free);
}
