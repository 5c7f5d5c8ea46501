/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Commands that change what a disk's requests must go through, and that no drain announces. A dirty bitmap, for one, must
 * miss no write from the moment on that its command returned: so the kernel's rings rest while such a command runs, and
 * afterwards each disk is served from where it may be.
 */
#include "vhost-blk.h"
#include "qapi/qmp-registry.h"

/* The monitor's table (monitor/qmp.c); its header is private to QEMU's monitor folder. */
extern QmpCommandList qmp_commands;

static QLIST_HEAD(, VHostBlk) disks = QLIST_HEAD_INITIALIZER(disks);

static void pause_disks(void)
{
    VHostBlk *v;

    QLIST_FOREACH(v, &disks, next) {
        if (v->running) {
            vblk_kernel_pause(v);
        }
    }
}

static void recheck_disks(void)
{
    VHostBlk *v;

    QLIST_FOREACH(v, &disks, next) {
        vblk_recheck_soon(v);
    }
}

#define INTERCEPT(function, before)                                             \
    static QmpCommandFunc *function##_of_qemu;                                  \
    static void function(QDict *args, QObject **result, Error **errp)           \
    {                                                                           \
        before;                                                                 \
        function##_of_qemu(args, result, errp);                                 \
        recheck_disks();                                                        \
    }

INTERCEPT(block_dirty_bitmap_add, pause_disks())
INTERCEPT(block_set_io_throttle, pause_disks())
INTERCEPT(block_set_write_threshold, pause_disks())
INTERCEPT(blockdev_set_active, pause_disks())
INTERCEPT(transaction, pause_disks())
/* Mostly a question, and asked often: the disks don't rest for it. */
INTERCEPT(human_monitor_command, (void)0)

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
    QLIST_INSERT_HEAD(&disks, v, next);
}

void vblk_intercept_remove(VHostBlk *v)
{
    QLIST_REMOVE(v, next);
}
