// SPDX-License-Identifier: GPL-2.0-or-later
// Moments as QEMU's own trace tells them, in its log.

/** An event of QEMU's trace. */
export interface Traced {
  name: string
  /** Its arguments, as QEMU prints them. */
  rest: string
  /** Microseconds of the host's clock. */
  us: number
}

/** Arguments with which QEMU writes these events, and when they were, to its log. */
export const traceArguments = (names: string[]) => [
  '-msg',
  'timestamp=on',
  ...names.flatMap((name) => ['-trace', name]),
]

/** The events in a log, oldest first. */
export function readTrace(log: string): Traced[] {
  return log.split('\n').flatMap((line) => {
    const [, seconds, name = '', rest = ''] = /^\d+@(\d+\.\d+):(\w+) ?(.*)$/.exec(line) ?? []
    return seconds ? [{ name, rest, us: Number(seconds) * 1e6 }] : []
  })
}
