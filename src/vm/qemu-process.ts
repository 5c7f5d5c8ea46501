// SPDX-License-Identifier: GPL-2.0-or-later

import { readFile } from 'node:fs/promises'
import { type PeerCredentials, peerCredentials } from '../host/fd.ts'
import type { Vm } from './vm.ts'

/**
 * The process that serves a VM's monitor, or why it isn't known. It need not be the QEMU: a manager may have opened the
 * socket and passed it on.
 */
export function findProcess(vm: Vm): PeerCredentials | { unknown: string } {
  if (vm.process !== undefined) return vm.process
  if (vm.elsewhere !== undefined) return { unknown: vm.elsewhere }
  const { descriptor } = vm.qmp
  if (descriptor === undefined) return { unknown: 'its monitor is closed' }
  try {
    const peer = peerCredentials(descriptor)
    return peer.pid > 0 ? peer : { unknown: 'it runs in another pid namespace' }
  } catch (error) {
    return { unknown: (error as Error).message }
  }
}

/**
 * The user and group by which a process makes files (proc(5), status: the fourth of each); undefined if that can't be read. A
 * monitor's socket tells who opened it, and QEMU may have become another user since (-run-with user=).
 */
export async function readFileOwner(pid: number): Promise<{ uid: number; gid: number } | undefined> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
  const [uid, gid] = ['Uid', 'Gid'].map(
    (name) => new RegExp(`^${name}:(?:\\s+\\d+){3}\\s+(\\d+)$`, 'm').exec(status)?.[1],
  )
  return uid === undefined || gid === undefined ? undefined : { uid: Number(uid), gid: Number(gid) }
}
