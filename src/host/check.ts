// SPDX-License-Identifier: GPL-2.0-or-later

/** What doctor found about one thing that vhost-blk disks need. */
export interface Check {
  /** Stable name for machines. */
  name: string
  /** warn: disks work now, and something related will not. */
  status: 'ok' | 'warn' | 'fail'
  /** What was found, in words. */
  message: string
  /** The command that mends it; null if there is nothing to mend. */
  fix: string | null
}

export function ok(name: string, message: string): Check {
  return { name, status: 'ok', message, fix: null }
}

export function warn(name: string, message: string, fix: string): Check {
  return { name, status: 'warn', message, fix }
}

export function fail(name: string, message: string, fix: string): Check {
  return { name, status: 'fail', message, fix }
}
