// SPDX-License-Identifier: GPL-2.0-or-later

import { readFile, stat } from 'node:fs/promises'
import { ExitCode, VblkError } from '../../errors.ts'
import { findProcess } from '../../vm/qemu-process.ts'
import type { Vm } from '../../vm/vm.ts'
import { hostOf } from '../hosts/host-of.ts'

const device = '/dev/userfaultfd'
const setting = '/proc/sys/vm/unprivileged_userfaultfd'
/** CAP_SYS_PTRACE (linux/capability.h). */
const ptrace = 1n << 19n

/** What mends a host where QEMU may not use userfaultfd. */
export const userfaultfdHint = `on the destination's host, unless its QEMU runs as root: let its user open ${device}, or "sysctl vm.unprivileged_userfaultfd=1"`

/**
 * Throws VblkError (exit code 4) for a destination of this host whose QEMU certainly may not fetch memory as a guest needs it
 * (userfaultfd(2), ioctl_userfaultfd(2)). Where that can't be told from here, QEMU says it when the capability is set.
 */
export async function requireUserfaultfd(destination: Vm): Promise<void> {
  if (hostOf(destination) !== undefined) return
  const process = findProcess(destination)
  if ('unknown' in process) return
  try {
    if ((await readFile(setting, 'utf8')).trim() !== '0') return
    if (await mayUse(await readFile(`/proc/${process.pid}/status`, 'utf8'))) return
  } catch {
    return
  }
  throw new VblkError(
    'NO_POSTCOPY',
    ExitCode.HostLacks,
    `${destination.name}: its QEMU may not use userfaultfd, without which there is no postcopy`,
    { hint: userfaultfdHint },
  )
}

/** By the text of a process's status (proc(5)). */
export async function mayUse(status: string, path = device): Promise<boolean> {
  const field = (name: string) => new RegExp(`^${name}:\\s+(.*)$`, 'm').exec(status)?.[1] ?? ''
  if ((BigInt(`0x${field('CapEff') || '0'}`) & ptrace) !== 0n) return true
  const stats = await stat(path).catch(() => undefined)
  if (stats === undefined) return false
  // The fourth is what files are opened as.
  const [uid, gid] = ['Uid', 'Gid'].map((name) => Number(field(name).split('\t')[3]))
  const groups = [gid, ...field('Groups').split(' ').filter(Boolean).map(Number)]
  const bits = stats.uid === uid ? stats.mode >> 6 : groups.includes(stats.gid) ? stats.mode >> 3 : stats.mode
  return (bits & 6) === 6
}
