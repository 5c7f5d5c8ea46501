// SPDX-License-Identifier: GPL-2.0-or-later
// How long the disks of a VM take to stop, as they do before their state is saved for a migration.
import { Disk, startGuest } from '../../device/disk.ts'
import { makeNullBlk } from '../../kmod/devices.ts'
import { Guest, type GuestOptions } from '../../lab/guest.ts'
import type { Lab } from '../../lab/lab.ts'
import { median } from '../median.ts'
import { readTrace, traceArguments } from './qemu-trace.ts'

const rounds = 7
const most = 8

/** QEMU's own moments: it begins to stop what the VM has, and it has announced the stop, before it drains the block layer. */
const traced = ['vm_state_notify', 'monitor_protocol_event_queue']

/** Microseconds of the last stop in QEMU's log. */
function lastStop(log: string): number {
  const events = readTrace(log)
  const from = events.findLast(({ name, rest }) => name === 'vm_state_notify' && rest.startsWith('running 0'))
  const to = events.find(({ name, us }) => name === 'monitor_protocol_event_queue' && us > (from?.us ?? Infinity))
  if (from === undefined || to === undefined) throw new Error(`no stop in QEMU's log:\n${log.slice(-2000)}`)
  return to.us - from.us
}

/**
 * Starts a guest with so many idle disks, and stops and continues it again and again.
 *
 * @returns microseconds from the decision to stop to the announcement, the median of the rounds
 */
export async function measureStop(lab: Lab, driver: string, count: number): Promise<number> {
  const isOurs = driver === 'vhost-blk-pci'
  const options: GuestOptions = { name: `${driver}-${count}`, ports: most, args: traceArguments(traced) }
  const guest = isOurs ? await startGuest(lab, options) : await Guest.start(lab, { ...options, device: false })
  try {
    await guest.up(300_000)
    const disks: Disk[] = []
    for (let index = 0; index < count; index++) {
      const path = await makeNullBlk(lab, `stop${index}`, { size: 64, submit_queues: 1, irqmode: 1, memory_backed: 0 })
      disks.push(await Disk.plug(guest, path, { driver, index, file: { driver: 'host_device' } }))
      await guest.awaitDisk(`vd${'abcdefgh'[index]}`)
    }
    await lab.check(['sleep', '3'])
    const times: number[] = []
    while (times.length < rounds) {
      for (const disk of isOurs ? disks : []) await disk.onKernel()
      await guest.ask('stop')
      times.push(lastStop(await guest.qemuLog()))
      await guest.ask('cont')
    }
    return median(times)
  } finally {
    await guest.kill()
  }
}
