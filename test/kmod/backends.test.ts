// SPDX-License-Identifier: GPL-2.0-or-later
// A verifying load on storage of every kind; afterwards another process reads what is there.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { Lab } from '../lab/lab.ts'
import { loadNullBlk, makeNullBlk } from './devices.ts'
import { checkContent, runLoad } from './load.ts'
import { attachLoop, connectNvme, makeScsiDebug, mountNew, script } from './storage.ts'

const state = '/run/state'
const diskSize = 8 * 2 ** 20

let lab: Lab

beforeAll(async () => {
  lab = await Lab.start()
  await lab.check(['modprobe', 'vhost_blk'])
  await loadNullBlk(lab)
  await lab.kernelWarnings()
}, 300_000)

afterAll(async () => {
  await lab?.stop()
})

/** Loads the file, then reads it from outside, by the page cache and past it. */
async function loadAndCheck(file: string, args: string[]): Promise<void> {
  const direct = args.includes('--direct')
  const requests = 300
  const common = ['--file', file, '--state', state, '--requests', `${requests}`, '--depth', '16', '--zeroes']
  const result = await runLoad(lab, [...common, '--fresh', ...args])
  expect(result).toMatchObject({ completed: requests, errors: 0 })
  expect(result.writes).toBeGreaterThan(requests / 4)
  expect(result.flushes).toBeGreaterThan(0)
  const { written } = await checkContent(lab, file, state)
  expect(written).toBeGreaterThan(500)
  await checkContent(lab, file, state, ['--direct'])
  // The other way of opening goes on where the first left off.
  await runLoad(lab, [...common, '--size', `${diskSize}`, ...(direct ? [] : ['--direct']), '--queues', '2'])
  await checkContent(lab, file, state)
  expect(await lab.kernelWarnings()).toEqual([])
}

/** Not null_blk: with such sectors it takes buffers that it then overruns (mended in Linux 6.18). */
async function bigSectorLoop(name: string): Promise<string> {
  await lab.check(['truncate', '-s', '64M', `/run/${name}.img`])
  return await attachLoop(lab, `/run/${name}.img`, ['--sector-size', '4096'])
}

describe('files', () => {
  const fileSystems = ['tmpfs', 'ext4', 'xfs', 'btrfs', 'ext4 of 4096-byte sectors']

  test.each(fileSystems)(
    'on %s: sparse and preallocated, buffered and direct',
    async (name) => {
      const at = '/run/files'
      const [type = ''] = name.split(' ')
      await lab.check(['mkdir', '-p', at])
      if (type === 'tmpfs') await lab.check(['mount', '-t', 'tmpfs', '-o', 'size=64M', 'tmpfs', at])
      else {
        const device =
          name === type
            ? await makeNullBlk(lab, `files-${type}`, { size: 512, memory_backed: 1, discard: 1 })
            : await bigSectorLoop('files')
        await mountNew(lab, type, device, at)
      }
      await lab.check(['truncate', '-s', `${diskSize}`, `${at}/sparse`])
      await loadAndCheck(`${at}/sparse`, [])
      await lab.check(['fallocate', '-l', `${diskSize}`, `${at}/full`])
      await loadAndCheck(`${at}/full`, ['--direct'])
      await lab.check(['umount', at])
    },
    60_000,
  )
})

describe('block devices', () => {
  const memory = { size: 64, memory_backed: 1, discard: 1 }
  const nullBlk = async (name: string, settings: Record<string, number> = {}) =>
    await makeNullBlk(lab, name, { ...memory, ...settings })
  const fileBelow = async (name: string) => {
    const at = `/run/${name}`
    await mountNew(lab, 'ext4', await nullBlk(`under-${name}`), at)
    await lab.check(['truncate', '-s', `${diskSize}`, `${at}/image`])
    return `${at}/image`
  }
  // On tmpfs: a read of the target's without waiting that finds half of its pages cached is an error to it.
  const nvme = async () => {
    await lab.check(['truncate', '-s', `${diskSize}`, '/run/nvme.img'])
    return await connectNvme(lab, 'backends', '/run/nvme.img')
  }
  const kinds: [string, () => Promise<string>][] = [
    ['null_blk', () => nullBlk('plain')],
    ['null_blk with a volatile cache', () => nullBlk('cached', { cache_size: 4 })],
    ['a loop device of 4096-byte sectors', () => bigSectorLoop('big')],
    ['scsi_debug of 4096-byte sectors', () => makeScsiDebug(lab, { dev_size_mb: 16, sector_size: 4096, lbpu: 1 })],
    ['a loop device', async () => attachLoop(lab, await fileBelow('loop'))],
    ['a loop device with direct I/O', async () => attachLoop(lab, await fileBelow('loop-direct'), ['--direct-io=on'])],
    ['an NVMe disk', nvme],
    [
      'an LVM volume, striped over two disks',
      async () => {
        const disks = [await nullBlk('pv-a'), await nullBlk('pv-b')]
        await lab.check(['modprobe', 'dm-mod'])
        await script(
          lab,
          `vgcreate --config "$1" --quiet --yes group "$2" "$3"
           lvcreate --config "$1" --quiet --yes --type striped --stripes 2 --stripesize 4 --size 8M --name volume group
           vgmknodes --config "$1"`,
          'activation{udev_sync=0 udev_rules=0 verify_udev_operations=0} devices{types=["nullb",1] use_devicesfile=0 obtain_device_list_from_udev=0}',
          ...disks,
        )
        return '/dev/group/volume'
      },
    ],
  ]

  test.each(kinds)(
    '%s, buffered and direct',
    async (_name, make) => {
      await loadAndCheck(await make(), ['--direct', '--size', `${diskSize}`])
    },
    60_000,
  )
})
