/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "trace/trace-hw_block_vhost_blk.h"
