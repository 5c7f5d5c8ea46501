// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import {
  type EventStream,
  QmpCommandError,
  QmpInterruptedError,
  QmpTimeoutError,
  type WaitOptions,
} from '../qmp/index.ts'
import { migrating, saysMigrating } from '../vm/presence.ts'
import { findDevice, peripheral } from '../vm/qom.ts'
import type { Vm } from '../vm/vm.ts'
import { nodeName } from './names.ts'
import { pause } from './pause.ts'

/** pending: QEMU has asked the guest, and the guest hasn't let go of the device yet. */
export type UnplugOutcome = 'gone' | 'pending'

/**
 * Asks the guest to give a device back, and waits until QEMU says that it is gone, or until the time is over or the
 * signal aborted. A PCI guest can't be heard refusing: it is pending until it is gone. Throws VblkError (exit code 5)
 * when QEMU refuses, or a guest that can does; 9 while the VM migrates.
 */
export async function unplug(vm: Vm, id: string, options: WaitOptions): Promise<UnplugOutcome> {
  const path = `${peripheral}/${id}`
  const events = vm.qmp.events(
    ({ event, data }) =>
      (event === 'DEVICE_DELETED' || event === 'DEVICE_UNPLUG_GUEST_ERROR') &&
      (data.device === id || data.path === path),
  )
  try {
    if ((await requestUnplug(vm, id)) === 'gone') return 'gone'
    await awaitDeleted(events, id, options)
    return 'gone'
  } catch (error) {
    if (!(error instanceof QmpTimeoutError || error instanceof QmpInterruptedError)) throw error
    return (await findDevice(vm, id)) === undefined ? 'gone' : 'pending'
  } finally {
    events.close()
  }
}

async function requestUnplug(vm: Vm, id: string): Promise<'asked' | 'gone'> {
  try {
    await vm.qmp.execute('device_del', { id })
    return 'asked'
  } catch (error) {
    if (!(error instanceof QmpCommandError)) throw error
    if (error.errorClass === 'DeviceNotFound') return 'gone'
    // An earlier request still waits for the guest's answer, which will do for ours.
    if (/in the process of unplug/.test(error.desc)) return 'asked'
    if (saysMigrating(error.desc)) throw migrating(vm, error)
    throw new VblkError('UNPLUG_REFUSED', ExitCode.Refused, `QEMU refuses to unplug ${id}: ${error.desc}`, {
      cause: error,
    })
  }
}

async function awaitDeleted(events: EventStream, id: string, options: WaitOptions): Promise<void> {
  const event = await events.next(options)
  if (event?.event === 'DEVICE_UNPLUG_GUEST_ERROR') {
    throw new VblkError('UNPLUG_REFUSED', ExitCode.Refused, `the guest refuses to give up ${id}`)
  }
}

// QEMU lets go of a device's node in an RCU callback, a moment after it has said that the device is gone.
const releaseMs = 5000
const releaseRetryMs = 50

/**
 * Removes a disk's node. It may not exist. Throws VblkError (exit code 5) when something still uses it: QEMU never
 * removes such a node.
 */
export async function removeNode(vm: Vm, id: string): Promise<'removed' | 'absent'> {
  const deadline = Date.now() + releaseMs
  while (true) {
    try {
      await vm.qmp.execute('blockdev-del', { 'node-name': nodeName(id) })
      return 'removed'
    } catch (error) {
      if (!(error instanceof QmpCommandError)) throw error
      if (!(await hasNode(vm, nodeName(id)))) return 'absent'
      if (Date.now() > deadline || !/is in use/.test(error.desc)) throw nodeInUse(id, error)
    }
    await pause(releaseRetryMs)
  }
}

/** Whether QEMU has a block node of this name. */
export async function hasNode(vm: Vm, name: string, options: WaitOptions = {}): Promise<boolean> {
  const nodes = await vm.qmp.execute('query-named-block-nodes', { flat: true }, options)
  return nodes.some((node) => node['node-name'] === name)
}

function nodeInUse(id: string, cause: QmpCommandError): VblkError {
  return new VblkError(
    'NODE_IN_USE',
    ExitCode.Refused,
    `no device uses the block node ${nodeName(id)}, but QEMU can't remove it yet: ${cause.desc}`,
    { hint: 'end the job or export that uses it, then detach again', cause },
  )
}
