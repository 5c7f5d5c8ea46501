// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import { type OpenVmOptions, withVm } from '../vm/vm.ts'
import { type DiskInfo, listDisks } from './info.ts'

/** A VM's disks, or why they aren't known. */
export type VmDisks =
  | { vm: string; disks: DiskInfo[]; error: null }
  | { vm: string; disks: null; error: { code: string; exitCode: number; message: string } }

// Each VM costs a few descriptors and messages; ssh and virsh cost a process each.
const atOnce = 32

/** Lists the disks of many VMs, some at a time; one that fails doesn't keep the others. In the order given. */
export async function listVms(names: readonly string[], options: OpenVmOptions): Promise<VmDisks[]> {
  const results: VmDisks[] = []
  let next = 0
  const work = async () => {
    for (let index = next++; index < names.length; index = next++) {
      const vm = names[index] as string
      results[index] = await listOne(vm, options)
    }
  }
  await Promise.all(Array.from({ length: Math.min(atOnce, names.length) }, work))
  return results
}

async function listOne(name: string, options: OpenVmOptions): Promise<VmDisks> {
  try {
    const disks = await withVm(name, options, (vm) => listDisks(vm, { signal: options.signal }))
    return { vm: name, disks, error: null }
  } catch (error) {
    if (!(error instanceof VblkError) || error.exitCode === ExitCode.Bug || options.signal?.aborted) throw error
    const { code, exitCode, message } = error
    return { vm: name, disks: null, error: { code, exitCode, message } }
  }
}
