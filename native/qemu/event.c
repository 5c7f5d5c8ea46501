/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The QMP event VHOST_BLK_DATAPATH_CHANGE: another backend serves a disk. A manager that asked for a switch waits for it instead of
 * asking again and again; one that didn't learns what its other commands did to the disk.
 *
 *     { "event": "VHOST_BLK_DATAPATH_CHANGE",
 *       "data": { "id": "disk0", "qom-path": "/machine/peripheral/disk0/virtio-backend", "active": false,
 *                 "reason": "the disk is throttled" }, "timestamp": … }
 *
 * "id" is missing if the user gave none. Stops and starts between which the backend stays the same are not told.
 */
#include "vhost-blk.h"
#include "qapi/qapi-emit-events.h"
#include "qapi/qmp-event.h"
#include "qobject/qdict.h"
#include "trace.h"

/*
 * QEMU's table of events is closed. The message is built from the name alone; the number is only looked up for a limit to the
 * event's rate, and this one's has none.
 */
#define EVENT_WITHOUT_LIMIT QAPI_EVENT_DEVICE_DELETED

static void emit(VHostBlk *v, const char *reason)
{
    QDict *event = qmp_event_build_dict("VHOST_BLK_DATAPATH_CHANGE");
    QDict *data = qdict_new();
    const char *id = DEVICE(qdev_get_parent_bus(DEVICE(v))->parent)->id;
    g_autofree char *path = object_get_canonical_path(OBJECT(v));

    if (id) {
        qdict_put_str(data, "id", id);
    }
    qdict_put_str(data, "qom-path", path);
    qdict_put_bool(data, "active", v->running);
    qdict_put_str(data, "reason", reason);
    qdict_put(event, "data", data);
    qapi_event_emit(EVENT_WITHOUT_LIMIT, event);
    qobject_unref(event);
}

void vblk_announce_datapath(VHostBlk *v)
{
    OnOffAuto now = v->running ? ON_OFF_AUTO_ON : ON_OFF_AUTO_OFF;
    g_autofree char *why = NULL;
    g_autofree char *name = NULL;

    if (now == v->announced) {
        return;
    }
    v->announced = now;
    why = v->running ? g_strdup("") : vblk_why_userspace(v);
    name = vblk_name(v);
    trace_vhost_blk_datapath(v, name, v->running, why ? why : "");
    emit(v, why ? why : "");
}
