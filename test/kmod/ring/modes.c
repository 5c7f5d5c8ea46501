// SPDX-License-Identifier: GPL-2.0-or-later
#include "modes.h"

#include <stddef.h>

const struct mode modes[] = {
	{ "load", load_mode },
	{ "check", check_mode },
	{ "replay", replay_mode },
	{ NULL, NULL },
};
