// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import { QmpCommandError } from '../qmp/index.ts'
import { requireHere } from '../vm/presence.ts'
import type { Vm } from '../vm/vm.ts'
import { renewKernel, withdrawKernel } from './descriptors.ts'
import { type DiskInfo, requireDisk } from './info.ts'
import { pause } from './pause.ts'
import type { PlannedCommand } from './plan.ts'
import type { OperationOptions } from './report.ts'
import { askedOff, changeDue } from './vhost-state.ts'

export interface DatapathResult {
  id: string
  /** False when it was so already, or nothing was asked. */
  changed: boolean
  /** The disk as it is afterwards. */
  disk: DiskInfo
  /** What was sent, or would be. */
  commands: PlannedCommand[]
  dryRun: boolean
}

/**
 * Has a disk of a running VM served by the kernel, or by QEMU until it is given back to the kernel. The guest notices
 * nothing. Throws VblkError: exit code 3 for no such disk, 4 when this host lacks the module, 5 when the kernel can't
 * serve this disk, 9 while the VM migrates.
 */
export async function switchDatapath(
  vm: Vm,
  id: string,
  target: 'kernel' | 'userspace',
  options: OperationOptions,
): Promise<DatapathResult> {
  const { signal, dryRun, report } = options
  const disk = await requireDisk(vm, id, { signal })
  if (isSo(disk, target)) return { id, changed: false, disk, commands: [], dryRun }
  if (disk.kernel === null) {
    throw new VblkError('NO_KERNEL_DATAPATH', ExitCode.Refused, `${id} is a ${disk.type}: the kernel can't serve it`, {
      hint: 'detach it and attach it again with vblk, in a QEMU that has the vhost-blk device',
    })
  }
  await requireHere(vm, { signal })
  const set = { path: disk.path, property: 'vhost-active', value: target === 'kernel' }
  const commands = [{ execute: 'qom-set', arguments: set }]
  if (dryRun) return { id, changed: false, disk, commands, dryRun }
  signal.throwIfAborted()
  // The switch waits for requests in flight, and can't be taken back on the way.
  const now = await report.wait(`switching ${id} to the ${target} datapath`, async () => {
    if (target === 'kernel') await renewKernel(vm, disk, { signal })
    await vm.qmp.execute('qom-set', set, { timeoutMs: options.timeoutMs }).catch((error: Error) => {
      throw explainFailure(error, id)
    })
    return await settled(vm, id, options)
  })
  // It would keep the module loaded.
  if (target === 'userspace') await withdrawKernel(vm, disk, { signal })
  if ((now.datapath === 'kernel') !== (target === 'kernel')) throw notSwitched(now, id, target)
  // A disk that the kernel can never serve is served as before.
  const changed = now.datapath !== disk.datapath || now.reason !== disk.reason
  return { id, changed, disk: now, commands, dryRun }
}

function isSo({ datapath, reason, kernel }: DiskInfo, target: 'kernel' | 'userspace'): boolean {
  if (target === 'kernel') return datapath === 'kernel'
  // A disk that QEMU serves for another reason returns to the kernel when that is over.
  return kernel === null || reason === askedOff
}

const pollMs = 100

/** The disk once the device has done what it decided. */
async function settled(vm: Vm, id: string, { timeoutMs, signal }: OperationOptions): Promise<DiskInfo> {
  const deadline = Date.now() + timeoutMs
  while (true) {
    const disk = await requireDisk(vm, id, { signal })
    if (disk.reason !== changeDue || Date.now() >= deadline) return disk
    await pause(pollMs, signal)
  }
}

function explainFailure(error: Error, id: string): Error {
  if (!(error instanceof QmpCommandError)) return error
  const why = error.desc.replace(/^the kernel can't serve this disk: /, '')
  const lacksModule = error.desc.includes('/dev/vhost-blk')
  return new VblkError(
    'NO_KERNEL_DATAPATH',
    lacksModule ? ExitCode.HostLacks : ExitCode.Refused,
    `the kernel can't serve ${id}: ${why}`,
    { ...(lacksModule && { hint: 'load the module with: vblk module load' }), cause: error },
  )
}

function notSwitched({ datapath, reason }: DiskInfo, id: string, target: string): VblkError {
  const message = `${id} did not switch to the ${target} datapath: it is ${datapath}${reason === '' ? '' : ` (${reason})`}`
  return new VblkError('DATAPATH_NOT_SWITCHED', ExitCode.Refused, message)
}
