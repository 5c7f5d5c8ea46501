/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef VHOST_GEN_LZ4_H
#define VHOST_GEN_LZ4_H

#include "btf.h"

/* Does it begin like an LZ4 file of the legacy format? */
bool is_lz4(struct blob file);
/* Unpacks such a file; prints one line and exits if it is damaged. */
struct blob lz4_unpack(struct blob file);

#endif
