// SPDX-License-Identifier: GPL-2.0-or-later

import { pause } from '../../disk/pause.ts'
import { findProcess } from '../../vm/qemu-process.ts'
import type { Vm } from '../../vm/vm.ts'
import { thisHost } from '../hosts/this-host.ts'
import type { ProcessIdentity } from './record.ts'

/** A process of this host that lives now; undefined if there is none or /proc doesn't tell. */
export const identify = (pid: number): ProcessIdentity | undefined => thisHost.identify(pid)

/** The process that serves a VM's monitor. */
export function identifyVm(vm: Vm): ProcessIdentity | undefined {
  const process = findProcess(vm)
  return 'pid' in process ? identify(process.pid) : undefined
}

export function isSameProcess(a: ProcessIdentity | null | undefined, b: ProcessIdentity | null | undefined): boolean {
  return a != null && b != null && a.pid === b.pid && a.startedAt === b.startedAt && a.boot === b.boot
}

/** Whether a process of this host has certainly ended: after a boot, or with its number free or another's. */
export function hasEnded(recorded: ProcessIdentity): boolean {
  return !isSameProcess(identify(recorded.pid), recorded)
}

const endMs = 10_000
const pollMs = 100

/**
 * Whether a process ends, as far as this host can tell; false for one that isn't known. A monitor closes a little before its
 * process is gone.
 */
export async function awaitProcessEnd(recorded: ProcessIdentity | null): Promise<boolean> {
  if (recorded === null) return false
  const deadline = Date.now() + endMs
  while (!hasEnded(recorded)) {
    if (Date.now() > deadline) return false
    await pause(pollMs)
  }
  return true
}
