// SPDX-License-Identifier: GPL-2.0-or-later

import { lstat, rename } from 'node:fs/promises'
import path from 'node:path'
import type { Successor } from './arguments.ts'

/**
 * Gives a QEMU's sockets the names that its predecessor's had, now that this one has ended: a client finds by the name whoever
 * listens there. Only what belongs to QEMU's user is renamed or replaced: its arguments could name another's file. What can't be
 * renamed is a warning, and keeps the name that it has.
 *
 * @returns the names that were taken
 */
export async function takeNames(
  names: Successor['names'],
  { cwd, uid }: { cwd: string; uid: number },
  warn: (message: string) => void,
): Promise<string[]> {
  const taken: string[] = []
  for (const name of names) {
    const [from, to] = [path.resolve(cwd, name.from), path.resolve(cwd, name.to)]
    try {
      const made = await lstat(from)
      // A predecessor that was killed has left its own.
      const left = await lstat(to).catch(() => made)
      if ([made, left].some((file) => file.uid !== uid)) throw new Error("a file there is another user's")
      if (left.isSocket() !== made.isSocket() || left.isFile() !== made.isFile())
        throw new Error('another file is there')
      await rename(from, to)
      taken.push(to)
    } catch (error) {
      warn(`${from} could not become ${to}: ${(error as Error).message}`)
    }
  }
  return taken
}
