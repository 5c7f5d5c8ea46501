/* SPDX-License-Identifier: GPL-2.0-or-later */
/* In a QEMU tree the types register with all others; in a plugin, qemu_plugin_install does it. */
#include "vhost-blk.h"
#include "qemu/module.h"

type_init(vblk_register_device_type)
type_init(vblk_register_pci_types)
