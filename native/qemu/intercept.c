/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Commands that change what a disk's requests must go through, and that no drain announces. A dirty bitmap, for one, must
 * miss no write from the moment on that its command returned: so the kernel's rings rest while such a command runs, and
 * afterwards each disk is served from where it may be.
 */
#include "vhost-blk.h"
#include "qapi/error.h"
#include "qapi/qmp-registry.h"
#include "qemu/timer.h"

/* The monitor's table (monitor/qmp.c); its header is private to QEMU's monitor folder. */
extern QmpCommandList qmp_commands;

static QLIST_HEAD(, VHostBlk) disks = QLIST_HEAD_INITIALIZER(disks);

/* How long such a command waits for slow storage before it is refused, in milliseconds. */
#define PATIENCE 500

void vblk_rest_all(void)
{
    VHostBlk *v;

    QLIST_FOREACH(v, &disks, next) {
        if (v->running) {
            vblk_kernel_rest(v);
        }
    }
}

static bool pause_disks(Error **errp)
{
    int64_t end = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + PATIENCE;
    VHostBlk *v;

    vblk_rest_all();
    QLIST_FOREACH(v, &disks, next) {
        int64_t left = end - qemu_clock_get_ms(QEMU_CLOCK_REALTIME);

        if (v->running && !vblk_kernel_await_rest(v, MAX(left, 0))) {
            g_autofree char *name = vblk_name(v);

            error_setg(errp, "vhost-blk disk '%s' has requests in flight that its storage does not answer", name);
            return false;
        }
    }
    return true;
}

/* So that they have what the kernel did until now. */
static bool account_disks(Error **errp)
{
    VHostBlk *v;

    QLIST_FOREACH(v, &disks, next) {
        vblk_account(v);
    }
    return true;
}

static void recheck_disks(void)
{
    VHostBlk *v;

    QLIST_FOREACH(v, &disks, next) {
        vblk_recheck_soon(v);
    }
}

#define INTERCEPT(function, before, after)                                      \
    static QmpCommandFunc *function##_of_qemu;                                  \
    static void function(QDict *args, QObject **result, Error **errp)           \
    {                                                                           \
        if (before) {                                                           \
            function##_of_qemu(args, result, errp);                             \
        }                                                                       \
        after;                                                                  \
    }

INTERCEPT(block_dirty_bitmap_add, pause_disks(errp), recheck_disks())
INTERCEPT(block_set_write_threshold, pause_disks(errp), recheck_disks())
INTERCEPT(blockdev_set_active, pause_disks(errp), recheck_disks())
INTERCEPT(transaction, pause_disks(errp), recheck_disks())
/* What is in flight may pass: limits are for what comes. */
INTERCEPT(block_set_io_throttle, true, recheck_disks())
/* Mostly a question, and asked often: the disks don't rest for it. */
INTERCEPT(human_monitor_command, account_disks(errp), recheck_disks())
INTERCEPT(query_blockstats, account_disks(errp), (void)0)

static void intercept(const char *name, QmpCommandFunc *fn, QmpCommandFunc **of_qemu)
{
    QmpCommand *command = (QmpCommand *)qmp_find_command(&qmp_commands, name);

    if (command && !*of_qemu) {
        *of_qemu = command->fn;
        command->fn = fn;
    }
}

void vblk_intercept_add(VHostBlk *v)
{
    intercept("block-dirty-bitmap-add", block_dirty_bitmap_add, &block_dirty_bitmap_add_of_qemu);
    intercept("block_set_io_throttle", block_set_io_throttle, &block_set_io_throttle_of_qemu);
    intercept("block-set-write-threshold", block_set_write_threshold, &block_set_write_threshold_of_qemu);
    intercept("blockdev-set-active", blockdev_set_active, &blockdev_set_active_of_qemu);
    intercept("transaction", transaction, &transaction_of_qemu);
    intercept("human-monitor-command", human_monitor_command, &human_monitor_command_of_qemu);
    intercept("query-blockstats", query_blockstats, &query_blockstats_of_qemu);
    QLIST_INSERT_HEAD(&disks, v, next);
}

void vblk_intercept_remove(VHostBlk *v)
{
    QLIST_REMOVE(v, next);
}
