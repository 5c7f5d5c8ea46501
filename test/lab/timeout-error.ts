// SPDX-License-Identifier: GPL-2.0-or-later
/** Something came to no end in its time. */
export class TimeoutError extends Error {}
