// SPDX-License-Identifier: GPL-2.0-or-later

import { type PeerCredentials, peerCredentials } from '../host/fd.ts'
import type { Vm } from './vm.ts'

/**
 * The process that serves a VM's monitor, or why it isn't known. It need not be the QEMU: a manager may have opened the
 * socket and passed it on.
 */
export function findProcess(vm: Vm): PeerCredentials | { unknown: string } {
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
