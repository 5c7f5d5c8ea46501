// SPDX-License-Identifier: GPL-2.0-or-later

import { constants } from 'node:fs'
import { readFile } from 'node:fs/promises'

/** The flags of open(2) that a process's descriptor has now (proc(5), fdinfo). Throws what reading /proc throws. */
export async function readFdFlags(pid: number | 'self', fd: number): Promise<number> {
  const info = await readFile(`/proc/${pid}/fdinfo/${fd}`, 'utf8')
  const octal = /^flags:\s*([0-7]+)$/m.exec(info)?.[1]
  if (octal === undefined) throw new Error(`/proc/${pid}/fdinfo/${fd} has no flags`)
  return Number.parseInt(octal, 8)
}

// Node has no constant for it (asm-generic/fcntl.h); the same on x86-64 and arm64.
const O_PATH = 0o10000000

/** Whether a descriptor with these flags was opened for reading, and for writing too unless only reading is wanted. */
export function allows(flags: number, readOnly: boolean): boolean {
  // Opened with O_PATH, it proves no right to the file at all.
  if ((flags & O_PATH) !== 0) return false
  const mode = flags & (constants.O_WRONLY | constants.O_RDWR)
  return mode === constants.O_RDWR || (readOnly && mode === constants.O_RDONLY)
}
