// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import { type PeerCredentials, sendFds } from '../host/fd.ts'
import { QmpClient, QmpCommandError, type QmpVersion, type StatusInfo, type WaitOptions } from '../qmp/index.ts'
import { lockVm } from './lock.ts'
import { resolveVm } from './resolve.ts'

/** QOM type of the disk that the kernel can serve, as the vhost-blk device plugin registers it. */
export const vhostBlkPci = 'vhost-blk-pci'

export interface OpenVmOptions extends WaitOptions {
  /** Sees one line per message to or from QEMU. */
  trace?: ((line: string) => void) | undefined
  /** Ask for out-of-band commands too, which reach a QEMU that hangs. */
  outOfBand?: boolean | undefined
}

export interface LockVmOptions extends OpenVmOptions {
  /** Hears why the VM could not be locked; the work goes on. */
  warn(message: string): void
}

/** A running QEMU, reached through its QMP monitor. It holds the monitor until closed: nobody else can use it. */
export interface Vm {
  /** As the user named it. */
  name: string
  qmp: QmpClient
  /** Its QEMU, when that isn't at the other end of a unix socket and is known all the same. */
  process?: PeerCredentials
  /** Why the process that serves the monitor can't be looked at, when it isn't at the other end of a unix socket. */
  elsewhere?: string
  /** Its QEMU opens files of another host, or may do so. */
  remote?: boolean
}

// A QEMU that takes longer to greet hangs, however patient the command is otherwise.
const connectMs = 10_000

/**
 * Finds a VM by a registered name, the path of its QMP socket, or another address (see parseAddress). Throws QmpConnectError and
 * the like: exit codes 3, 4, 6 and 9; 2 for an address that is none.
 */
export async function openVm(name: string, { timeoutMs, signal, trace, outOfBand }: OpenVmOptions = {}): Promise<Vm> {
  const { path, open, place, locate } = await resolveVm(name)
  const qmp = await QmpClient.connect({
    path,
    open,
    timeoutMs: Math.min(timeoutMs ?? connectMs, connectMs),
    commandTimeoutMs: timeoutMs,
    signal,
    sendFds,
    outOfBand,
    trace: trace && ((direction, line) => trace(`${direction === 'send' ? '->' : '<-'} ${line}`)),
  })
  return { name, qmp, ...(place ?? (await locate?.())) }
}

/** Opens the VM for the time of one function, and lets go of its monitor whatever happens. */
export async function withVm<T>(name: string, options: OpenVmOptions, use: (vm: Vm) => Promise<T>): Promise<T> {
  const vm = await openVm(name, options)
  try {
    return await use(vm)
  } finally {
    await vm.qmp.close()
  }
}

/**
 * The same for a function that changes the VM: nobody else's vblk does meanwhile. Throws VblkError (exit code 9) while
 * another one does.
 */
export async function withLockedVm<T>(name: string, options: LockVmOptions, use: (vm: Vm) => Promise<T>): Promise<T> {
  return await withVm(name, options, async (vm) => {
    const unlock = lockVm(vm, options.warn)
    try {
      return await use(vm)
    } finally {
      unlock()
    }
  })
}

export interface VmFacts {
  version: QmpVersion
  status: StatusInfo
  /** Like 'pc-q35-10.0'. */
  machine: string
  /** Whether QEMU knows the device type vhost-blk-pci. */
  hasVhostBlk: boolean
}

/** What this QEMU is and can. */
export async function readFacts(vm: Vm, options: WaitOptions = {}): Promise<VmFacts> {
  const type = await vm.qmp.execute('qom-get', { path: '/machine', property: 'type' }, options)
  return {
    version: vm.qmp.version,
    status: await vm.qmp.execute('query-status', {}, options),
    machine: String(type).replace(/-machine$/, ''),
    hasVhostBlk: await hasDeviceType(vm, vhostBlkPci, options),
  }
}

/** Whether this QEMU can make devices of a type, one that a plugin brought included. */
export async function hasDeviceType(vm: Vm, typename: string, options: WaitOptions = {}): Promise<boolean> {
  try {
    await vm.qmp.execute('device-list-properties', { typename }, options)
    return true
  } catch (error) {
    // DeviceNotFound: no such type. GenericError: a type, but not a device's.
    if (error instanceof QmpCommandError) return false
    throw error
  }
}

/** Throws VblkError (exit code 5) for a VM whose files can't be looked at from here. */
export function requireLocal(vm: Vm, what: string): void {
  if (!vm.remote) return
  throw new VblkError('VM_IS_REMOTE', ExitCode.Refused, `${vm.name} may be on another host: ${what}`, {
    hint: 'run vblk on that host, for example: ssh HOST vblk …',
  })
}

/** Throws VblkError (exit code 4) unless this QEMU has the vhost-blk device. */
export async function requireVhostBlk(vm: Vm, options: WaitOptions = {}): Promise<void> {
  if (await hasDeviceType(vm, vhostBlkPci, options)) return
  const { major, minor, micro } = vm.qmp.version.qemu
  throw new VblkError(
    'NO_VHOST_BLK_DEVICE',
    ExitCode.HostLacks,
    `${vm.name}: this QEMU (${major}.${minor}.${micro}) has no device type ${vhostBlkPci}`,
    { hint: 'start it with the arguments that "vblk device args" prints' },
  )
}
