// SPDX-License-Identifier: GPL-2.0-or-later
// What an idle disk costs of the host's memory, QEMU's and the kernel's.
import { Disk, startGuest } from '../../device/disk.ts'
import { makeNullBlk } from '../../kmod/devices.ts'
import { Guest, type GuestOptions } from '../../lab/guest.ts'
import type { Lab } from '../../lab/lab.ts'
import { readCounters } from '../kmod/memory.ts'

const most = 8
const memory = 192

/** KiB */
interface Used {
  qemu: number
  kernel: number
}

/** The guest's own memory is shared, so what is anonymous is QEMU's. */
async function read(lab: Lab, guest: Guest): Promise<Used> {
  const kernel = Object.values(await readCounters(lab)).reduce((sum, part) => sum + part, 0)
  const smaps = await lab.check(['cat', `/proc/${await guest.pid()}/smaps_rollup`])
  return { qemu: Number(/^Anonymous: +(\d+) kB$/m.exec(smaps)?.[1]), kernel }
}

/**
 * Starts a guest and plugs eight disks, one after another.
 *
 * @returns KiB for each disk after the first, which also makes what all share
 */
export async function measureMemory(lab: Lab, driver: string): Promise<Used> {
  const args = [
    ...['-object', `memory-backend-memfd,id=pc.ram,size=${memory}M,share=on`],
    ...['-machine', 'memory-backend=pc.ram'],
  ]
  const options: GuestOptions = { name: `memory-${driver}`, memory, ports: most, args }
  const isOurs = driver === 'vhost-blk-pci'
  const paths: string[] = []
  for (let index = 0; index < most; index++)
    paths.push(await makeNullBlk(lab, `memory-${driver}-${index}`, { size: 64, memory_backed: 0 }))
  // Two mebibytes that come or go at once would hide what a disk takes.
  await lab.check(['sh', '-c', 'echo never >/sys/kernel/mm/transparent_hugepage/enabled'])
  const guest = isOurs ? await startGuest(lab, options) : await Guest.start(lab, { ...options, device: false })
  const plug = async (index: number) => {
    const file = { driver: 'host_device', aio: 'io_uring' }
    const disk = await Disk.plug(guest, paths[index] as string, { driver, index, file })
    await guest.awaitDisk(`vd${'abcdefgh'[index]}`)
    if (isOurs) await disk.onKernel()
  }
  // QEMU's threads for requests end when they had none for ten seconds (util/thread-pool.c).
  const settle = () => lab.check(['sleep', '15'])
  try {
    await guest.up()
    await plug(0)
    await settle()
    const one = await read(lab, guest)
    for (let index = 1; index < most; index++) await plug(index)
    await settle()
    const all = await read(lab, guest)
    const each = (part: keyof Used) => (all[part] - one[part]) / (most - 1)
    return { qemu: each('qemu'), kernel: each('kernel') }
  } finally {
    await guest.kill()
  }
}
