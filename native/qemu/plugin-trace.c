/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The trace events, as QEMU's tracetool makes them. They register with the program's other events in a phase of its start that
 * is over when a plugin is loaded: qemu_plugin_install does it.
 */
#include "qemu/osdep.h"
#include "qemu/module.h"
#include "vhost-blk.h"

#undef trace_init
#define trace_init(function)            \
    void vblk_register_trace_events(void) \
    {                                   \
        function();                     \
    }

#include "trace/trace-hw_block_vhost_blk.c"
