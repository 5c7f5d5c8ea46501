// SPDX-License-Identifier: GPL-2.0-or-later
// How long a disk under load stands still: when the VM is stopped, and when another datapath takes over.
import { Disk, type DiskOptions, startGuest } from '../../device/disk.ts'
import { Guest, type GuestOptions } from '../../lab/guest.ts'
import type { Lab } from '../../lab/lab.ts'
import { median } from '../median.ts'
import type { Setting } from './guest-load.ts'
import { readTrace, traceArguments } from './qemu-trace.ts'

const rounds = 9
const depth = 32

/** QEMU takes up a command, and has its answer. */
const begun = 'monitor_qmp_cmd_in_band'
const answered = 'monitor_qmp_respond'

/** Medians, in microseconds from a command to its answer. */
export interface Pauses {
  stop: number
  cont: number
  /** `vhost-active` set to false, and to true; of vhost-blk alone. */
  leave?: number
  enter?: number
}

/** Microseconds that QEMU spent on its last command. */
function lastCommand(log: string): number {
  const events = readTrace(log)
  const from = events.findLast(({ name }) => name === begun)
  const to = events.find(({ name, us }) => name === answered && us > (from?.us ?? Infinity))
  if (from === undefined || to === undefined) throw new Error(`no command in QEMU's log:\n${log.slice(-2000)}`)
  return to.us - from.us
}

/**
 * Starts a guest with a disk, reads from it 32 requests deep, and stops and continues the VM again and again; a vhost-blk disk
 * is given to QEMU and back as well. While such a command runs the disk serves nothing: its time is the pause.
 *
 * @throws Error if the disk is not served as the setting says, or a switch is not over with its command
 */
export async function measurePauses(lab: Lab, device: string, setting: Setting): Promise<Pauses> {
  const options: GuestOptions = { name: setting.name, args: traceArguments([begun, answered]) }
  const isOurs = setting.driver === 'vhost-blk-pci'
  const guest = isOurs ? await startGuest(lab, options) : await Guest.start(lab, { ...options, device: false })
  const timeOf = async (command: () => Promise<unknown>) => {
    await command()
    return lastCommand(await guest.qemuLog())
  }
  try {
    await guest.up()
    const disk: DiskOptions = { driver: setting.driver, file: { driver: 'host_device', aio: 'io_uring' } }
    if (setting.iothread) {
      await guest.ask('object-add', { 'qom-type': 'iothread', id: 'io0', ...setting.iothread })
      disk.device = { iothread: 'io0' }
    }
    const plugged = await Disk.plug(guest, device, disk)
    await guest.awaitDisk('vda')
    if (isOurs) await plugged.onKernel()
    const load = `setsid ioload /dev/vda read ${depth} 1 4000000000 >/dev/null 2>&1 </dev/null &`
    // A disk that has just come has host and guest at work for a while.
    await lab.check(['sleep', '3'])
    await guest.check(['sh', '-c', load])
    await lab.check(['sleep', '0.1'])
    const times: Record<keyof Pauses, number[]> = { stop: [], cont: [], leave: [], enter: [] }
    for (let round = 0; round < rounds; round++) {
      times.stop.push(await timeOf(() => guest.ask('stop')))
      times.cont.push(await timeOf(() => guest.ask('cont')))
      if (!isOurs) continue
      await plugged.onKernel()
      times.leave.push(await timeOf(() => plugged.set('vhost-active', false)))
      if ((await plugged.state()).active)
        throw new Error('the disk was still with the kernel when the command returned')
      times.enter.push(await timeOf(() => plugged.set('vhost-active', true)))
      if (!(await plugged.state()).active) throw new Error('the kernel did not have the disk when the command returned')
    }
    const pauses = { stop: median(times.stop), cont: median(times.cont) }
    return isOurs ? { ...pauses, leave: median(times.leave), enter: median(times.enter) } : pauses
  } finally {
    await guest.kill()
  }
}
