// SPDX-License-Identifier: GPL-2.0-or-later
// What the ring driver works on in L1: null_blk devices, made for the purpose.
import type { Lab } from '../lab/lab.ts'

/**
 * Makes a null_blk device with these settings (names as in its configfs folder; size in MiB) and waits for its node.
 *
 * @returns the node's path
 */
export async function makeNullBlk(lab: Lab, name: string, settings: Record<string, number>): Promise<string> {
  const dir = `/sys/kernel/config/nullb/${name}`
  await lab.check(['mkdir', dir])
  for (const [key, value] of Object.entries({ ...settings, power: 1 }))
    await lab.check(['sh', '-c', 'echo "$1" >"$2"', 'sh', `${value}`, `${dir}/${key}`])
  const index = (await lab.check(['cat', `${dir}/index`])).trim()
  const found = await lab.check([
    'sh',
    '-c',
    'for i in $(seq 600); do for f in "$@"; do if [ -b "$f" ]; then echo "$f"; exit; fi; done; sleep 0.05; done',
    'sh',
    `/dev/${name}`,
    `/dev/nullb${index}`,
  ])
  if (!found) throw new Error(`null_blk ${name} got no device node`)
  return found.trim()
}

/** Loads null_blk so that devices can be made. */
export async function loadNullBlk(lab: Lab): Promise<void> {
  await lab.check(['modprobe', 'null_blk', 'nr_devices=0'])
  await lab.exec(['mount', '-t', 'configfs', 'configfs', '/sys/kernel/config'])
}

const ring = '/opt/vblk/lab/bin/ring'
/** Where the ring driver's images are; a file system of its own. */
export const imageDir = '/run/ring'
const memory = { size: 64, memory_backed: 1, discard: 1 }

/**
 * Makes the devices that the ring driver's conformance cases need.
 *
 * @returns the command that runs cases; their names are to be appended
 */
export async function prepareRing(lab: Lab): Promise<string[]> {
  await loadNullBlk(lab)
  // A volatile cache without FUA: a durable write shows as a flush of the device. Before 6.8 null_blk always has FUA; a loop
  // device never.
  const canDoWithoutFua = (await lab.check(['cat', '/sys/kernel/config/nullb/features'])).split(',').includes('fua')
  const fua = canDoWithoutFua ? { fua: 0 } : {}
  const block = await makeNullBlk(lab, 'ring-cached', { ...memory, cache_size: 8, ...fua })
  const cached = canDoWithoutFua ? block : await makeLoop(lab, '/run/ring-cached.img')
  const slow = await makeNullBlk(lab, 'ring-slow', { ...memory, irqmode: 2, completion_nsec: 100_000_000 })
  // An ext4 of its own: some cases freeze it.
  const disk = await makeNullBlk(lab, 'ring-files', memory)
  await lab.check(['mkfs.ext4', '-q', disk])
  await lab.check(['mkdir', '-p', imageDir])
  await lab.check(['mount', disk, imageDir])
  return [ring, '--dir', imageDir, '--block', block, '--cached', cached, '--slow', slow]
}

/** A loop device on a new file. */
async function makeLoop(lab: Lab, file: string): Promise<string> {
  await lab.check(['truncate', '-s', '64M', file])
  return (await lab.check(['losetup', '--find', '--show', file])).trim()
}

/**
 * Loads scsi_debug with these parameters, for one disk in memory.
 *
 * @returns the node's path
 */
export async function makeScsiDebug(lab: Lab, settings: Record<string, number>): Promise<string> {
  await lab.check(['modprobe', 'scsi_debug', ...Object.entries(settings).map(([key, value]) => `${key}=${value}`)])
  const found = await lab.check([
    'sh',
    '-c',
    'for i in $(seq 600); do for f in /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/*; do ' +
      'n=/dev/$(basename "$f"); if [ -b "$n" ]; then echo "$n"; exit; fi; done; sleep 0.05; done',
  ])
  if (!found) throw new Error('scsi_debug got no device node')
  return found.trim()
}
