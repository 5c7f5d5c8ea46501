// SPDX-License-Identifier: GPL-2.0-or-later

import { readFile } from 'node:fs/promises'

/** The flags of open(2) that a process's descriptor has now (proc(5), fdinfo). Throws what reading /proc throws. */
export async function readFdFlags(pid: number | 'self', fd: number): Promise<number> {
  const info = await readFile(`/proc/${pid}/fdinfo/${fd}`, 'utf8')
  const octal = /^flags:\s*([0-7]+)$/m.exec(info)?.[1]
  if (octal === undefined) throw new Error(`/proc/${pid}/fdinfo/${fd} has no flags`)
  return Number.parseInt(octal, 8)
}
