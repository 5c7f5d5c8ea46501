// SPDX-License-Identifier: GPL-2.0-or-later
// One guest, one disk, one load in it.
import { Disk, type DiskOptions, startGuest } from '../../device/disk.ts'
import { Guest, type GuestOptions } from '../../lab/guest.ts'
import type { Lab } from '../../lab/lab.ts'
import type { Shape } from '../kmod/loads.ts'

/** How a disk is served. */
export interface Setting {
  /** Also the guest's, whose files in L1 are its own. */
  name: string
  driver: 'vhost-blk-pci' | 'virtio-blk-pci'
  /** Arguments of an iothread that the disk gets. */
  iothread?: Record<string, unknown>
}

/** A guest with its disk, on which a load can be run. */
export interface LoadedGuest {
  guest: Guest
  /** Returns the nanoseconds a request, by the guest's clock, of so many. */
  serve(count: number): Promise<number>
  end(): Promise<void>
}

const timeoutMs = 120_000
/** Each of them long enough to outlast how it begins and ends. */
const rounds = 4

/** Nanoseconds a request, as the guest's clock tells. */
async function runLoad(guest: Guest, { direction, depth, jobs = 1 }: Shape, count: number): Promise<number> {
  const argv = ['ioload', '/dev/vda', direction, `${depth}`, `${jobs}`, `${Math.ceil(count / jobs)}`]
  const { requests, ns } = JSON.parse(await guest.check(argv, { timeoutMs }))
  return ns / requests
}

/**
 * Starts a guest with a disk on a block device of L1, served as the setting says.
 *
 * @throws Error if it is not served so
 */
export async function startLoadedGuest(lab: Lab, device: string, setting: Setting, shape: Shape): Promise<LoadedGuest> {
  const options: GuestOptions = { name: setting.name }
  const isOurs = setting.driver === 'vhost-blk-pci'
  const guest = isOurs ? await startGuest(lab, options) : await Guest.start(lab, { ...options, device: false })
  try {
    await guest.up()
    const file = { driver: 'host_device', aio: 'io_uring' }
    const disk: DiskOptions = { driver: setting.driver, file }
    if (setting.iothread) {
      await guest.ask('object-add', { 'qom-type': 'iothread', id: 'io0', ...setting.iothread })
      disk.device = { iothread: 'io0' }
    }
    const plugged = await Disk.plug(guest, device, disk)
    await guest.awaitDisk('vda')
    if (isOurs) await plugged.onKernel()
    // The first requests meet unmapped memory, and host and guest are at work for a while on a disk that has just come.
    await runLoad(guest, shape, 500)
    await lab.check(['sleep', '3'])
    return { guest, serve: (count) => runLoad(guest, shape, count), end: () => guest.kill() }
  } catch (error) {
    await guest.kill()
    throw error
  }
}

/**
 * Measures a load in a guest of its own, several times: where one processor carries guest and host, the scheduler lets requests
 * gather into batches or serves each by itself, and stays with either for long.
 *
 * @param count requests a round
 * @returns nanoseconds a request, of each round
 * @throws Error if the disk is not served as the setting says
 */
export async function measureGuest(
  lab: Lab,
  device: string,
  setting: Setting,
  shape: Shape,
  count: number,
): Promise<number[]> {
  const load = await startLoadedGuest(lab, device, setting, shape)
  try {
    const measured: number[] = []
    while (measured.length < rounds) measured.push(await load.serve(count))
    return measured
  } finally {
    await load.end()
  }
}
