// SPDX-License-Identifier: GPL-2.0-or-later

import { readFile, readlink } from 'node:fs/promises'
import { ExitCode, VblkError } from '../../errors.ts'
import { findProcess } from '../../vm/qemu-process.ts'
import type { Vm } from '../../vm/vm.ts'

/** How a VM's QEMU was started (proc(5)). */
export interface SourceProcess {
  pid: number
  /** The program; another one may lie there now. */
  program: string
  /** Without the program. */
  argv: string[]
  cwd: string
  /** Variables whose names a shell could set. */
  env: Record<string, string>
  uid: number
  gid: number
  groups: number[]
}

/** Throws VblkError (exit code 5) for a QEMU that can't be looked at, or runs apart from this vblk. */
export async function readSourceProcess(vm: Vm): Promise<SourceProcess> {
  const found = findProcess(vm)
  const refuse = (why: string) =>
    new VblkError(
      'SOURCE_NOT_READABLE',
      ExitCode.Refused,
      `${vm.name}: how its QEMU was started can't be told: ${why}`,
      {
        hint: 'start the destination yourself, or let --start-destination do it',
      },
    )
  if ('unknown' in found) throw refuse(found.unknown)
  const proc = `/proc/${found.pid}`
  try {
    const sameNames = await Promise.all(
      ['root', 'ns/mnt', 'ns/net', 'ns/pid'].map(async (name) => {
        const [theirs, own] = await Promise.all([readlink(`${proc}/${name}`), readlink(`/proc/self/${name}`)])
        return theirs === own
      }),
    )
    if (sameNames.includes(false)) throw refuse('it runs in a container or namespace of its own')
    const [command, environment, status, program, cwd] = await Promise.all([
      readFile(`${proc}/cmdline`, 'utf8'),
      readFile(`${proc}/environ`, 'utf8'),
      readFile(`${proc}/status`, 'utf8'),
      readlink(`${proc}/exe`),
      readlink(`${proc}/cwd`),
    ])
    const ids = (name: string) =>
      (new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? '').split(/\s+/).filter(Boolean).map(Number)
    const [uid, gid] = [ids('Uid')[1], ids('Gid')[1]]
    const argv = command.split('\0').slice(0, -1)
    if (uid === undefined || gid === undefined || argv.length === 0) throw refuse('its process has ended')
    return {
      pid: found.pid,
      // An upgrade leaves the name to its successor.
      program: program.replace(/ \(deleted\)$/, ''),
      argv: argv.slice(1),
      cwd,
      env: Object.fromEntries(
        environment
          .split('\0')
          .filter((line) => line.includes('='))
          .map(splitVariable),
      ),
      ...{ uid, gid, groups: ids('Groups') },
    }
  } catch (error) {
    if (error instanceof VblkError) throw error
    throw refuse((error as Error).message)
  }
}

function splitVariable(line: string): [string, string] {
  const at = line.indexOf('=')
  return [line.slice(0, at), line.slice(at + 1)]
}
