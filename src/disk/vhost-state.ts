// SPDX-License-Identifier: GPL-2.0-or-later

import { type Json, QmpProtocolError, type WaitOptions } from '../qmp/index.ts'
import { readProperty } from '../vm/qom.ts'
import type { Vm } from '../vm/vm.ts'

/** The property vhost-state of a vhost-blk device. */
export interface VhostState {
  /** The kernel serves the disk now. */
  active: boolean
  /** Why QEMU serves it; "" while the kernel does. */
  reason: string
  /** Numbers of QEMU's open /dev/vhost-blk descriptors. */
  fds: number[]
  /** Queues that have a backend in the kernel, as the kernel says. */
  runningQueues: number
  /** Requests that the kernel completed since the device was made. */
  requests: number
  /** Those of them that failed. */
  errors: number
}

/** The reason that the device gives while all it lacks is the guest's driver (native/qemu/device.c). */
export const notStarted = 'the guest has not started the disk'

/** The reason that it gives once it was told to leave the disk to QEMU. */
export const askedOff = 'vhost-active was set to false'

/** The reason that it gives between deciding for the kernel and handing the queues over. */
export const changeDue = 'a change of the datapath is due'

/** Reads the state of the device at a QOM path; undefined for a device that isn't a vhost-blk. */
export async function readVhostState(vm: Vm, path: string, options: WaitOptions = {}): Promise<VhostState | undefined> {
  const value = await readProperty(vm, path, 'vhost-state', options)
  return value === undefined ? undefined : parseVhostState(vm.name, value)
}

/** Throws QmpProtocolError for a value without the promised shape. */
export function parseVhostState(vmName: string, value: Json): VhostState {
  const fault = (what: string) => new QmpProtocolError(vmName, `vhost-state ${what}`)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw fault('is not an object')
  const count = (name: string): number => {
    const number = value[name]
    if (typeof number !== 'number' && typeof number !== 'bigint') throw fault(`has no number '${name}'`)
    return Number(number)
  }
  const { active, reason, fds } = value
  if (typeof active !== 'boolean') throw fault("has no boolean 'active'")
  if (typeof reason !== 'string') throw fault("has no text 'reason'")
  if (typeof fds !== 'string' || !/^(\d+(,\d+)*)?$/.test(fds)) throw fault("has no list of numbers 'fds'")
  return {
    active,
    reason,
    fds: fds === '' ? [] : fds.split(',').map(Number),
    runningQueues: count('running-queues'),
    requests: count('requests'),
    errors: count('errors'),
  }
}
