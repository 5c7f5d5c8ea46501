// SPDX-License-Identifier: GPL-2.0-or-later

import { readFile } from 'node:fs/promises'

/** What the kernel says of a /dev/vhost-blk descriptor, summed over its queues (kmod/uapi/vhost_blk.h). */
export interface BackendFigures {
  /** Queues with a backend. */
  running: number
  /** Requests taken and not completed. */
  inflight: number
}

/**
 * Reads the figures of another process's descriptor from /proc. The text says why it can't be read: no right to, or not
 * the process that has the descriptor.
 */
export async function readFdinfo(
  pid: number,
  fd: number,
  proc = '/proc',
): Promise<BackendFigures | { unknown: string }> {
  const path = `${proc}/${pid}/fdinfo/${fd}`
  try {
    return parseFdinfo(await readFile(path, 'utf8')) ?? { unknown: `${path} is not of a /dev/vhost-blk` }
  } catch (error) {
    return { unknown: (error as Error).message }
  }
}

/** Undefined for a text that the vhost_blk module didn't write. */
export function parseFdinfo(text: string): BackendFigures | undefined {
  const running = /^vhost-blk-running:\t(\d+)$/m.exec(text)?.[1]
  const inflight = /^vhost-blk-inflight:\t(\d+)$/m.exec(text)?.[1]
  if (running === undefined || inflight === undefined) return undefined
  return { running: Number(running), inflight: Number(inflight) }
}
