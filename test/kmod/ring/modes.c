// SPDX-License-Identifier: GPL-2.0-or-later
#include "modes.h"

#include <stddef.h>

const struct mode modes[] = {
	{ "load", load_mode },
	{ "check", check_mode },
	{ NULL, NULL },
};
