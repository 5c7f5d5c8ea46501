/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The QOM type "vhost-blk": virtio-blk-device with another choice of datapath, and with a write cache setting that
 * survives migration. Its migration stream is that of virtio-blk, in both directions.
 */
#include "vhost-blk.h"
#include "hw/qdev-properties.h"
#include "hw/qdev-properties-system.h"
#include "hw/virtio/virtio-blk.h"
#include "migration/vmstate.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "qemu/error-report.h"
#include "system/blockdev.h"

VirtioDeviceClass *vblk_parent_class;

char *vblk_name(VHostBlk *v)
{
    DeviceState *proxy = DEVICE(qdev_get_parent_bus(DEVICE(v))->parent);

    return proxy->id ? g_strdup(proxy->id) : object_get_canonical_path(OBJECT(proxy));
}

/* ---- life ---- */

/* The host must be able to serve a disk that says vhost=on; one that says auto gets a warning. */
static bool check_host(VHostBlk *v, Error **errp)
{
    g_autofree char *never = vblk_why_never(v);
    g_autofree char *name = vblk_name(v);
    const char *why = never;

    if (v->vhost == ON_OFF_AUTO_OFF) {
        return true;
    }
    if ((!never || v->vhost == ON_OFF_AUTO_ON) && !vblk_kernel_open(v)) {
        why = v->no_kernel;
    }
    if (!why) {
        return true;
    }
    if (v->vhost == ON_OFF_AUTO_ON) {
        error_setg(errp, "vhost=on is not possible: %s", why);
        return false;
    }
    warn_report("vhost-blk disk '%s' is served from userspace: %s", name, why);
    return true;
}

static void vhost_blk_realize(DeviceState *dev, Error **errp)
{
    VHostBlk *v = VHOST_BLK(dev);
    DriveInfo *legacy;
    Error *err = NULL;

    vblk_parent_class->realize(dev, &err);
    if (err) {
        error_propagate(errp, err);
        return;
    }
    /* Masking goes through the irqfds alone: there is no vhost device behind the queues that QEMU could mask. */
    VIRTIO_DEVICE(v)->use_guest_notifier_mask = false;
    if (!check_host(v, errp)) {
        vblk_kernel_close(v);
        g_clear_pointer(&v->no_kernel, g_free);
        vblk_parent_class->unrealize(dev);
        /* The parent's unrealize marks a -drive for deletion; a device that never came to be must not take it along. */
        legacy = blk_legacy_dinfo(VIRTIO_BLK(v)->blk);
        if (legacy) {
            legacy->auto_del = 0;
        }
        return;
    }
    vblk_switch_init(v);
    vblk_intercept_add(v);
}

static void vhost_blk_unrealize(DeviceState *dev)
{
    VHostBlk *v = VHOST_BLK(dev);

    vblk_intercept_remove(v);
    vblk_switch_cleanup(v);
    vblk_kernel_close(v);
    g_clear_pointer(&v->no_kernel, g_free);
    vblk_parent_class->unrealize(dev);
}

static void vhost_blk_reset(VirtIODevice *vdev)
{
    VHostBlk *v = VHOST_BLK(vdev);

    vblk_parent_class->reset(vdev);
    v->queue_was_reset = false;
    g_clear_pointer(&v->failure, g_free);
}

static void vhost_blk_queue_reset(VirtIODevice *vdev, uint32_t index)
{
    VHostBlk *v = VHOST_BLK(vdev);

    v->queue_was_reset = true;
    if (v->running) {
        vblk_restart_datapath(v);
    }
    if (vblk_parent_class->queue_reset) {
        vblk_parent_class->queue_reset(vdev, index);
    }
}

/* For the monitor's x-query-virtio-…, which ask for it while the kernel has the rings. */
static struct vhost_dev *vhost_blk_get_vhost(VirtIODevice *vdev)
{
    return &VHOST_BLK(vdev)->hdev;
}

/* ---- write cache ---- */

/*
 * Carries the write cache setting to the kernel, between two requests. When it goes off, what the kernel wrote until now may
 * still be in a volatile cache, and the guest will not flush it any more.
 */
static void write_cache_changed(VHostBlk *v, bool before)
{
    bool now = blk_enable_write_cache(VIRTIO_BLK(v)->blk);

    if (!v->running || before == now) {
        return;
    }
    v->flush_due = !now;
    if (v->paused) {
        return;
    }
    vblk_kernel_rest(v);
    vblk_recheck_soon(v);
}

static void vhost_blk_set_config(VirtIODevice *vdev, const uint8_t *config)
{
    VHostBlk *v = VHOST_BLK(vdev);
    bool before = blk_enable_write_cache(VIRTIO_BLK(v)->blk);

    vblk_parent_class->set_config(vdev, config);
    write_cache_changed(v, before);
}

/* A guest without VIRTIO_BLK_F_CONFIG_WCE has its cache mode set here; it may have kicked a queue before. */
static int set_status(VirtIODevice *vdev, uint8_t status)
{
    VHostBlk *v = VHOST_BLK(vdev);
    bool before = blk_enable_write_cache(VIRTIO_BLK(v)->blk);
    int r;

    r = vblk_set_status_of(vblk_parent_class, vdev, status);
    write_cache_changed(v, before);
    return r;
}

VBLK_DEFINE_SET_STATUS(vhost_blk_set_status, set_status)

/* ---- migration ---- */

static int vhost_blk_pre_save(void *opaque)
{
    VHostBlk *v = opaque;
    VirtIODevice *vdev = VIRTIO_DEVICE(v);

    if (v->running) {
        g_autofree char *name = vblk_name(v);

        error_report("vhost-blk disk '%s': its state can't be saved while the kernel serves it", name);
        return -EBUSY;
    }
    /* The stream carries the configuration space as last read by the guest; its write cache byte may be older. */
    vblk_parent_class->get_config(vdev, vdev->config);
    return 0;
}

/* virtio-blk restores no write cache: the destination would have the one of its command line. */
static int vhost_blk_post_load(VirtIODevice *vdev)
{
    VirtIOBlock *s = VIRTIO_BLK(vdev);
    struct virtio_blk_config config;

    if (vblk_parent_class->post_load) {
        int r = vblk_parent_class->post_load(vdev);

        if (r < 0) {
            return r;
        }
    }
    if (!(vdev->status & VIRTIO_CONFIG_S_DRIVER_OK)) {
        return 0;
    }
    if (!virtio_vdev_has_feature(vdev, VIRTIO_BLK_F_CONFIG_WCE)) {
        blk_set_enable_write_cache(s->blk, virtio_vdev_has_feature(vdev, VIRTIO_BLK_F_WCE));
    } else if (vdev->config_len > offsetof(struct virtio_blk_config, wce)) {
        memcpy(&config, vdev->config, offsetof(struct virtio_blk_config, wce) + sizeof(config.wce));
        blk_set_enable_write_cache(s->blk, config.wce != 0);
    }
    return 0;
}

/* Name, version and fields are those of virtio-blk. */
static const VMStateDescription vmstate_vhost_blk = {
    .name = "virtio-blk",
    .minimum_version_id = 2,
    .version_id = 2,
    .pre_save = vhost_blk_pre_save,
    .fields = (const VMStateField[]) {
        VMSTATE_VIRTIO_DEVICE,
        VMSTATE_END_OF_LIST()
    },
};

/* ---- properties ---- */

static bool get_vhost_active(Object *obj, Error **errp)
{
    VHostBlk *v = VHOST_BLK(obj);

    return v->running && !v->resting && !v->paused;
}

static void set_vhost_active(Object *obj, bool on, Error **errp)
{
    VHostBlk *v = VHOST_BLK(obj);
    bool before = v->asked_off;
    g_autofree char *why = NULL;

    v->asked_off = !on;
    if (!DEVICE(v)->realized) {
        return;
    }
    if (!on) {
        if (v->running) {
            vblk_leave_kernel(v);
        }
        vblk_kernel_let_go(v);
        return;
    }
    if (v->running) {
        vblk_recheck_soon(v);
        return;
    }
    why = vblk_why_never(v);
    if (!why) {
        g_clear_pointer(&v->failure, g_free);
        vblk_kernel_open(v);
        why = vblk_why_userspace(v);
    }
    if (!why) {
        vblk_restart_datapath(v);
        why = g_strdup(v->failure);
    }
    if (why) {
        v->asked_off = before;
        error_setg(errp, "the kernel can't serve this disk: %s", why);
    }
}

static char *get_vhostfds(Object *obj, Error **errp)
{
    return g_strdup(VHOST_BLK(obj)->vhostfds);
}

/* At run time it replaces the descriptor, or closes it: the module may be another when the next one is opened. */
static void set_vhostfds(Object *obj, const char *value, Error **errp)
{
    VHostBlk *v = VHOST_BLK(obj);

    if (DEVICE(v)->realized && !v->vhostfds) {
        error_setg(errp, "this disk opens its descriptor by vhostdev");
        return;
    }
    if (DEVICE(v)->realized && (v->running || !v->asked_off)) {
        error_setg(errp, "vhostfds can be set while vhost-active is false by command; set that first");
        return;
    }
    if (DEVICE(v)->realized) {
        vblk_kernel_close(v);
    }
    g_free(v->vhostfds);
    v->vhostfds = g_strdup(value);
    v->fds_taken = false;
}

static char *why_not_active(VHostBlk *v)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(v);
    char *why;

    if (!DEVICE(v)->realized) {
        return g_strdup("the device is not realized");
    }
    why = vblk_why_userspace(v);
    if (why) {
        return why;
    }
    if (v->paused) {
        return g_strdup("the block layer is draining the disk");
    }
    if (!vdev->vm_running) {
        return g_strdup("the VM is stopped");
    }
    if (!(vdev->status & VIRTIO_CONFIG_S_DRIVER_OK)) {
        return g_strdup("the guest has not started the disk");
    }
    return g_strdup("a change of the datapath is due");
}

static char *describe_state(VHostBlk *v, const VHostBlkCounters *counters)
{
    g_autofree char *why = NULL;

    if (get_vhost_active(OBJECT(v), NULL)) {
        return g_strdup("");
    }
    if (!v->resting) {
        return why_not_active(v);
    }
    why = vblk_why_userspace(v);
    return g_strdup_printf("%s%s%" PRIu64 " requests in flight are awaited", why ? why : "", why ? "; " : "",
                           counters->inflight - counters->held);
}

static void get_vhost_state(Object *obj, Visitor *visitor, const char *name, void *opaque, Error **errp)
{
    VHostBlk *v = VHOST_BLK(obj);
    VHostBlkCounters counters = vblk_counters(v);
    bool active = get_vhost_active(obj, NULL);
    g_autofree char *reason = describe_state(v, &counters);
    g_autofree char *fds = v->fd < 0 ? g_strdup("") : g_strdup_printf("%d", v->fd);
    struct {
        const char *name;
        uint64_t *value;
    } numbers[] = {
        { "running-queues", &counters.running_queues },
        { "requests", &counters.requests },
        { "errors", &counters.errors },
        { "inflight", &counters.inflight },
        { "held", &counters.held },
        { "reads", &counters.reads },
        { "writes", &counters.writes },
        { "flushes", &counters.flushes },
        { "discards", &counters.discards },
        { "write-zeroes", &counters.write_zeroes },
        { "read-bytes", &counters.read_bytes },
        { "write-bytes", &counters.write_bytes },
        { "discard-bytes", &counters.discard_bytes },
        { "read-time-ns", &counters.time_ns[VHOST_BLK_LATENCY_READ] },
        { "write-time-ns", &counters.time_ns[VHOST_BLK_LATENCY_WRITE] },
        { "flush-time-ns", &counters.time_ns[VHOST_BLK_LATENCY_FLUSH] },
        { "other-time-ns", &counters.time_ns[VHOST_BLK_LATENCY_OTHER] },
    };
    bool ok;

    if (!visit_start_struct(visitor, name, NULL, 0, errp)) {
        return;
    }
    ok = visit_type_bool(visitor, "active", &active, errp) && visit_type_str(visitor, "reason", &reason, errp) &&
         visit_type_str(visitor, "fds", &fds, errp);
    for (unsigned i = 0; ok && i < ARRAY_SIZE(numbers); i++) {
        ok = visit_type_uint64(visitor, numbers[i].name, numbers[i].value, errp);
    }
    if (ok) {
        visit_check_struct(visitor, errp);
    }
    visit_end_struct(visitor, NULL);
}

static bool get_original_write_cache(Object *obj, Error **errp)
{
    return VIRTIO_BLK(obj)->original_wce;
}

/* A reset applies it; what the guest has now stays. */
static void set_original_write_cache(Object *obj, bool on, Error **errp)
{
    if (!DEVICE(obj)->realized) {
        error_setg(errp, "the write cache of a disk that is being made is set by write-cache");
        return;
    }
    VIRTIO_BLK(obj)->original_wce = on;
}

static bool get_current_write_cache(Object *obj, Error **errp)
{
    VirtIOBlock *s = VIRTIO_BLK(obj);

    return s->blk && blk_enable_write_cache(s->blk);
}

/*
 * Off at once: a guest that believes in a write cache flushes in vain. Never on: a guest that believes in none doesn't flush
 * and would lose what it wrote.
 */
static void set_current_write_cache(Object *obj, bool on, Error **errp)
{
    VirtIOBlock *s = VIRTIO_BLK(obj);
    bool before = get_current_write_cache(obj, NULL);

    if (!DEVICE(obj)->realized) {
        error_setg(errp, "the write cache of a disk that is being made is set by write-cache");
        return;
    }
    if (on && !before) {
        error_setg(errp, "only a reset turns the write cache on: the guest may rely on its being off");
        return;
    }
    if (on == before) {
        return;
    }
    blk_set_enable_write_cache(s->blk, false);
    write_cache_changed(VHOST_BLK(obj), before);
    virtio_notify_config(VIRTIO_DEVICE(obj));
}

static const Property vhost_blk_properties[] = {
    DEFINE_PROP_ON_OFF_AUTO("vhost", VHostBlk, vhost, ON_OFF_AUTO_AUTO),
    DEFINE_PROP_STRING("vhostdev", VHostBlk, vhostdev),
    /* off: as if the module had no dirty log. */
    DEFINE_PROP_BOOL("x-dirty-log", VHostBlk, use_dirty_log, true),
};

static void vhost_blk_instance_init(Object *obj)
{
    VHOST_BLK(obj)->fd = -1;
}

static void vhost_blk_instance_finalize(Object *obj)
{
    g_free(VHOST_BLK(obj)->vhostfds);
}

static void vhost_blk_class_init(ObjectClass *klass, VHostBlkClassData data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    VirtioDeviceClass *vdc = VIRTIO_DEVICE_CLASS(klass);

    vblk_parent_class = VIRTIO_DEVICE_CLASS(object_class_get_parent(klass));
    device_class_set_props(dc, vhost_blk_properties);
    dc->vmsd = &vmstate_vhost_blk;
    vdc->realize = vhost_blk_realize;
    vdc->unrealize = vhost_blk_unrealize;
    vdc->reset = vhost_blk_reset;
    vdc->queue_reset = vhost_blk_queue_reset;
    vdc->get_vhost = vhost_blk_get_vhost;
    vdc->set_config = vhost_blk_set_config;
    vdc->set_status = vhost_blk_set_status;
    vdc->post_load = vhost_blk_post_load;
    vdc->start_ioeventfd = vblk_start_ioeventfd;
    vdc->stop_ioeventfd = vblk_stop_ioeventfd;

    object_class_property_add_str(klass, "vhostfds", get_vhostfds, set_vhostfds);
    object_class_property_set_description(klass, "vhostfds", "a descriptor of /dev/vhost-blk: its number or name");
    object_class_property_add_bool(klass, "vhost-active", get_vhost_active, set_vhost_active);
    object_class_property_set_description(klass, "vhost-active",
                                          "the kernel serves the disk; settable (true fails while it can't)");
    object_class_property_add(klass, "vhost-state", "struct", get_vhost_state, NULL, NULL, NULL);
    object_class_property_set_description(klass, "vhost-state", "datapath, its reason, and the kernel's counters");
    object_class_property_add_bool(klass, "original-write-cache", get_original_write_cache,
                                   set_original_write_cache);
    object_class_property_set_description(klass, "original-write-cache", "what a reset restores (on: writeback); settable");
    object_class_property_add_bool(klass, "current-write-cache", get_current_write_cache,
                                   set_current_write_cache);
    object_class_property_set_description(klass, "current-write-cache",
                                          "the guest's choice (on: writeback); settable to off");
}

static const TypeInfo vhost_blk_info = {
    .name = TYPE_VHOST_BLK,
    .parent = TYPE_VIRTIO_BLK,
    .instance_size = sizeof(VHostBlk),
    .instance_init = vhost_blk_instance_init,
    .instance_finalize = vhost_blk_instance_finalize,
    .class_init = vhost_blk_class_init,
};

void vblk_register_device_type(void)
{
    type_register_static(&vhost_blk_info);
}
