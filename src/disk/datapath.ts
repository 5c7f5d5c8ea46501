// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import type { Vm } from '../vm/vm.ts'
import { type DiskInfo, findDisk } from './info.ts'
import { pause } from './pause.ts'
import type { OperationOptions } from './report.ts'
import type { DiskSpec } from './spec.ts'
import { changeDue, notStarted } from './vhost-state.ts'

const pollMs = 200

/**
 * The new disk once it is known who serves it, or as it is when the time is over. The kernel begins when the guest's
 * driver starts the device (DRIVER_OK); a VM that stands still, or a guest without a driver, never does.
 */
export async function awaitDatapath(vm: Vm, spec: DiskSpec, options: OperationOptions): Promise<DiskInfo> {
  const what = spec.datapath === 'userspace' ? `looking at ${spec.id}` : `waiting for the guest to start ${spec.id}`
  const disk = await options.report.wait(what, () => poll(vm, spec, options))
  const { datapath, reason } = disk
  if (spec.datapath === 'kernel' && datapath !== 'kernel') {
    const outcome = datapath === 'idle' ? 'nobody serves it yet' : 'QEMU serves it, not the kernel'
    options.report.warn(`${spec.id} is attached, and ${outcome}: ${reason}`)
  }
  return disk
}

async function poll(vm: Vm, spec: DiskSpec, { timeoutMs, signal }: OperationOptions): Promise<DiskInfo> {
  const deadline = Date.now() + timeoutMs
  while (true) {
    const disk = await findDisk(vm, spec.id, { signal })
    if (disk === undefined) throw vanished(spec.id)
    if (!mayStartKernel(disk, spec) || Date.now() >= deadline) return disk
    await pause(pollMs, signal)
  }
}

/** Whether waiting can still bring the kernel datapath. */
function mayStartKernel({ datapath, reason }: DiskInfo, spec: DiskSpec): boolean {
  if (spec.datapath === 'userspace' || datapath === 'kernel') return false
  return reason === notStarted || reason === changeDue
}

function vanished(id: string): VblkError {
  return new VblkError('DISK_VANISHED', ExitCode.Refused, `${id} was plugged in and is gone again: someone removed it`)
}
