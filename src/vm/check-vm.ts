// SPDX-License-Identifier: GPL-2.0-or-later
import { ExitCode, VblkError } from '../errors.ts'
import { type Check, fail, ok } from '../host/check.ts'
import { checkProcess } from './check-process.ts'
import { findProcess } from './qemu-process.ts'
import { listSlots } from './slots.ts'
import { hasDeviceType, type OpenVmOptions, type Vm, vhostBlkPci, withVm } from './vm.ts'

/**
 * Checks of a running VM: can it get a disk, and can the kernel serve it. A monitor that does not answer is a failed check.
 *
 * @throws VblkError: exit code 2 for an address that is none, 3 for a VM that is not there
 */
export async function checkVm(name: string, options: OpenVmOptions): Promise<Check[]> {
  try {
    return await withVm(name, options, (vm) => checkOpen(vm, options))
  } catch (error) {
    if (!(error instanceof VblkError) || options.signal?.aborted) throw error
    if (error.exitCode === ExitCode.NotFound || error.exitCode === ExitCode.Usage) throw error
    return [fail('vm', error.message, error.hint ?? 'look at its QEMU')]
  }
}

async function checkOpen(vm: Vm, options: OpenVmOptions): Promise<Check[]> {
  const { major, minor, micro } = vm.qmp.version.qemu
  const { status } = await vm.qmp.execute('query-status', {}, options)
  const found = [
    ok('vm', `${vm.name}: QEMU ${major}.${minor}.${micro}, ${status}`),
    await checkDeviceType(vm, options),
    await checkSlots(vm, options),
  ]
  const process = findProcess(vm)
  return 'unknown' in process ? found : [...found, ...(await checkProcess(vm.name, process.pid))]
}

async function checkDeviceType(vm: Vm, options: OpenVmOptions): Promise<Check> {
  const name = 'vm-device'
  if (await hasDeviceType(vm, vhostBlkPci, options)) return ok(name, `${vm.name}: it has ${vhostBlkPci}`)
  return fail(
    name,
    `${vm.name}: its QEMU was started without ${vhostBlkPci}`,
    'start it with the arguments that "vblk device args" prints, or move it into such a QEMU: vblk migrate',
  )
}

async function checkSlots(vm: Vm, options: OpenVmOptions): Promise<Check> {
  const name = 'vm-slots'
  const slots = await listSlots(vm, options)
  const free = slots.filter(({ occupants }) => occupants.length === 0).map(({ bus }) => bus)
  if (free.length > 0)
    return ok(name, `${vm.name}: ${free.length} of ${slots.length} hot-plug ports free (${free.join(', ')})`)
  return fail(
    name,
    slots.length === 0
      ? `${vm.name}: it has no hot-plug port`
      : `${vm.name}: its ${slots.length} hot-plug ports are taken`,
    'start QEMU with more "-device pcie-root-port,id=…,chassis=N", or detach a disk',
  )
}
