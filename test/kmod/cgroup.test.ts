// SPDX-License-Identifier: GPL-2.0-or-later
// What a VM reads and writes is its cgroup's: the limits of io.max hold, whoever in the kernel does it for the VM.
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { Lab } from '../lab/lab.ts'
import { loadNullBlk, makeNullBlk } from './devices.ts'
import { checkContent, Load } from './load.ts'
import { script } from './storage.ts'

const state = '/run/state'
const size = 8 * 2 ** 20
const group = '/run/cgroup/vm'
/** Bytes a second, of reads and of writes. */
const limit = 2 ** 20
const milliseconds = 3000

let lab: Lab
let disk: string
let number: string

beforeAll(async () => {
  lab = await Lab.start()
  await lab.check(['modprobe', 'vhost_blk'])
  await loadNullBlk(lab)
  disk = await makeNullBlk(lab, 'limited', { size: 64, memory_backed: 1, discard: 1 })
  number = await script(lab, 'cat "/sys/block/$1/dev"', disk.replace('/dev/', ''))
  await script(
    lab,
    `mkdir -p /run/cgroup
     mount -t cgroup2 cgroup2 /run/cgroup
     echo +io +memory >/run/cgroup/cgroup.subtree_control
     mkdir "$1"`,
    group,
  )
  await lab.kernelWarnings()
}, 300_000)

afterEach(async () => {
  await lab.exec(['umount', '--quiet', '/run/limited'])
})

afterAll(async () => {
  await lab?.stop()
})

interface Transferred {
  read: number
  written: number
}

/** What the disk has done since its making. */
async function byDisk(): Promise<Transferred> {
  const fields = (await script(lab, 'cat "/sys/block/$1/stat"', disk.replace('/dev/', ''))).split(/\s+/)
  return { read: Number(fields[2]) * 512, written: Number(fields[6]) * 512 }
}

/** What of it was charged to the cgroup. */
async function byGroup(): Promise<Transferred> {
  const text = await script(lab, 'cat "$1/io.stat"', group)
  const line = text.split('\n').find((each) => each.startsWith(`${number} `)) ?? ''
  const count = (name: string) => Number(new RegExp(`${name}=(\\d+)`).exec(line)?.[1] ?? 0)
  return { read: count('rbytes'), written: count('wbytes') }
}

/** Runs the load in the cgroup for a while; what was transferred in that time, and how long it was in seconds. */
async function run(file: string, args: string[], bytesPerSecond: string) {
  await script(
    lab,
    'echo "$2 rbps=$3 wbps=$3" >"$1/io.max"; sync; echo 3 >/proc/sys/vm/drop_caches',
    group,
    number,
    bytesPerSecond,
  )
  const before = { disk: await byDisk(), group: await byGroup() }
  const start = Date.now()
  const load = new Load(lab, ['--file', file, '--state', state, '--size', `${size}`, '--depth', '8', ...args], group)
  await sleep(milliseconds)
  const result = await load.stop()
  const seconds = (Date.now() - start) / 1000
  const after = { disk: await byDisk(), group: await byGroup() }
  expect(result.errors).toBe(0)
  return {
    seconds,
    disk: { read: after.disk.read - before.disk.read, written: after.disk.written - before.disk.written },
    group: { read: after.group.read - before.group.read, written: after.group.written - before.group.written },
  }
}

describe('io.max holds for', () => {
  const image = '/run/limited/image'
  const direct = ['--direct', '--largest', '65536']
  const ways: [string, string[], boolean][] = [
    ['bios of the queue’s worker', [...direct, '--even'], false],
    ['requests that are punted and bounced', [...direct, '--odd'], false],
    ['a file, direct', direct, true],
    ['a file, by the page cache, each write durable', ['--largest', '65536', '--writethrough'], true],
  ]

  test.each(ways)(
    '%s',
    async (_name, args, onFile) => {
      if (onFile) {
        // The kernel would initialise the inode table later, in its own name.
        await script(
          lab,
          `mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$1"
           mkdir -p /run/limited
           mount "$1" /run/limited
           fallocate -l "$2" "$3"`,
          disk,
          size,
          image,
        )
      } else {
        await lab.check(['blkdiscard', '--zeroout', disk])
      }
      const file = onFile ? image : disk
      const free = await run(file, [...args, '--fresh'], 'max')
      const limited = await run(file, args, `${limit}`)
      const evidence = JSON.stringify({ free, limited })
      // The file system's journal is the host's own.
      for (const { disk, group } of [free, limited]) {
        expect({ evidence, charged: group.written > 0.5 * disk.written }).toEqual({ evidence, charged: true })
        expect({ evidence, charged: group.read >= 0.9 * disk.read }).toEqual({ evidence, charged: true })
      }
      // The block layer lets a slice of a tenth of a second go at once.
      const most = limit * (limited.seconds + 0.3)
      expect({ evidence, read: limited.group.read <= most }).toEqual({ evidence, read: true })
      expect({ evidence, written: limited.group.written <= most }).toEqual({ evidence, written: true })
      // It is the limit that held it, and not the machine.
      const rate = ({ group, seconds }: typeof free) => (group.read + group.written) / seconds
      expect({ evidence, slower: rate(free) > 1.5 * rate(limited) }).toEqual({ evidence, slower: true })
      await checkContent(lab, file, state)
      expect(await lab.kernelWarnings()).toEqual([])
    },
    40_000,
  )
})
