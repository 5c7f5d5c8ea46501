// SPDX-License-Identifier: GPL-2.0-or-later
// A loaded guest is moved from QEMU to QEMU of one host, by vblk or by bare QMP commands.
import { readFile } from 'node:fs/promises'
import type { MigratedVm } from '../../../src/migration/result.ts'
import { Disk, startGuest } from '../../device/disk.ts'
import { makeNullBlk } from '../../kmod/devices.ts'
import { Guest, type GuestOptions } from '../../lab/guest.ts'
import type { Lab } from '../../lab/lab.ts'
import { vblk } from '../../lab/vblk.ts'
import { median } from '../median.ts'

/** Who moves the VM: with it comes the driver of its disks. */
export type Mover = 'vblk' | 'bare-qmp'

export interface Switchover {
  /** From STOP at the source to RESUME at the destination, milliseconds, by QEMU's own time stamps. */
  downtime: number
  /** What vblk itself does in it; nothing with bare QMP. */
  own: number
  /** From the first command to a destination that runs, milliseconds; of vblk from its start to its end. */
  whole: number
}

export interface Vm {
  disks: number
  /** MiB */
  memory?: number
}

const migrationTimeoutMs = 900_000
/** Between a disk's batches of requests, microseconds, for each disk of the VM: a load without pauses would take the one processor from vblk. */
const pauseUs = 500

interface Timed {
  timestamp: { seconds: number; microseconds: number }
}

/** Milliseconds of the host's clock at the last event of a name. */
function momentOf(guest: Guest, name: string): number {
  const event = guest.events(name).at(-1) as (Timed & object) | undefined
  if (!event) throw new Error(`QEMU of ${guest.name} announced no ${name}`)
  return event.timestamp.seconds * 1000 + event.timestamp.microseconds / 1000
}

async function plug(guest: Guest, paths: string[], driver: string): Promise<void> {
  for (const [index, path] of paths.entries())
    await Disk.plug(guest, path, { driver, index, file: { driver: 'host_device', aio: 'io_uring' } })
}

const start = (lab: Lab, mover: Mover, options: GuestOptions) =>
  mover === 'vblk' ? startGuest(lab, options) : Guest.start(lab, { ...options, device: false })

async function byVblk(lab: Lab, source: Guest, destination: Guest): Promise<Omit<Switchover, 'downtime'>> {
  const now = async () => Number((await lab.check(['cat', '/proc/uptime'])).split(' ')[0]) * 1000
  const before = await now()
  const { downtimePhases } = await vblk<MigratedVm>(lab, ['migrate', source.qmp, destination.qmp], migrationTimeoutMs)
  if (!downtimePhases) throw new Error('vblk did not tell the parts of the downtime')
  return { own: downtimePhases.check + downtimePhases.verify, whole: (await now()) - before }
}

async function byBareQmp(lab: Lab, source: Guest, destination: Guest): Promise<Omit<Switchover, 'downtime'>> {
  const script = await readFile(new URL('bare-qmp.mjs', import.meta.url), 'utf8')
  const sockets = [source.qmp, destination.qmp, `/run/guests/${destination.name}/migration.sock`]
  const argv = ['node', '--input-type=module', '-', ...sockets]
  const took = await lab.check(argv, { stdin: script, timeoutMs: migrationTimeoutMs })
  return { own: 0, whole: Number(took) }
}

/**
 * Starts a guest that reads from all of its disks, 8 requests deep each, with pauses, and moves it so many times.
 *
 * @returns medians
 */
export async function measureSwitchover(lab: Lab, mover: Mover, vm: Vm, rounds: number): Promise<Switchover> {
  const driver = mover === 'vblk' ? 'vhost-blk-pci' : 'virtio-blk-pci'
  const paths: string[] = []
  for (let index = 0; index < vm.disks; index++)
    paths.push(await makeNullBlk(lab, `moved${index}`, { size: 64, submit_queues: 1, irqmode: 1, memory_backed: 0 }))
  const options = { ports: Math.max(3, vm.disks), ...(vm.memory && { memory: vm.memory }) }
  let source = await start(lab, mover, { name: `${mover}-0`, ...options })
  try {
    await source.up(300_000)
    await plug(source, paths, driver)
    const names = paths.map((_path, index) => `/dev/vd${'abcdefgh'[index]}`)
    for (const name of names) await source.awaitDisk(name.replace('/dev/', ''))
    await lab.check(['sleep', '3'])
    const load =
      'pause=$1; shift; for disk in "$@"; do setsid ioload $disk read 8 1 4000000000 $pause >/dev/null 2>&1 </dev/null & done'
    await source.check(['sh', '-c', load, 'sh', `${pauseUs * vm.disks}`, ...names])
    const measured: Switchover[] = []
    for (let round = 1; round <= rounds; round++) {
      const destination = await start(lab, mover, { name: `${mover}-${round}`, ...options, incoming: true })
      await plug(destination, paths, driver)
      // From now on their events are heard.
      await Promise.all([source.ask('query-status'), destination.ask('query-status')])
      const told = await (mover === 'vblk' ? byVblk : byBareQmp)(lab, source, destination)
      measured.push({ ...told, downtime: momentOf(destination, 'RESUME') - momentOf(source, 'STOP') })
      await source.kill()
      source = destination
    }
    const of = (part: keyof Switchover) => median(measured.map((one) => one[part]))
    return { downtime: of('downtime'), own: of('own'), whole: of('whole') }
  } finally {
    await source.kill()
  }
}
