// SPDX-License-Identifier: GPL-2.0-or-later
// Storage that fails, hangs, fills up or goes away, and owners that are killed: the host goes on, nothing answered is lost.
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { Lab } from '../lab/lab.ts'
import { loadNullBlk, makeNullBlk } from './devices.ts'
import { type Held, held } from './leaks.ts'
import { checkContent, Load, type LoadStats, runLoad } from './load.ts'
import {
  attachLoop,
  connectNvme,
  detachLoop,
  disconnectNvme,
  makeDm,
  makeScsiDebug,
  mountNew,
  reloadDm,
  removeDm,
  removeNullBlk,
  removeNvmeTarget,
  script,
  sectorsOf,
} from './storage.ts'

const state = '/run/state'
const size = 8 * 2 ** 20

let lab: Lab
let disk: string
let sectors: number

beforeAll(async () => {
  lab = await Lab.start()
  await lab.check(['modprobe', '-a', 'vhost_blk', 'dm-mod', 'dm-flakey', 'loop'])
  await loadNullBlk(lab)
  disk = await makeNullBlk(lab, 'faulty', { size: 64, memory_backed: 1, discard: 1 })
  sectors = await sectorsOf(lab, disk)
  await mountNew(lab, 'ext4', await makeNullBlk(lab, 'files', { size: 64, memory_backed: 1 }), '/run/ext4')
  await lab.kernelWarnings()
}, 300_000)

afterEach(async () => {
  expect(await lab.kernelWarnings()).toEqual([])
})

afterAll(async () => {
  await lab?.stop()
})

const args = (file: string, ...more: string[]) => [
  ...['--file', file, '--state', state, '--size', `${size}`, '--depth', '16'],
  ...more,
]
const start = (file: string, ...more: string[]) => new Load(lab, args(file, '--fresh', ...more))
const zero = (device: string) => lab.check(['blkdiscard', '--zeroout', '--length', `${size}`, device])
const linear = () => `0 ${sectors} linear ${disk} 0\n`

describe('a disk that', () => {
  test('fails in one half serves the other, and all once it is mended', async () => {
    await zero(disk)
    const half = size / 512 / 2
    const table = `0 ${half} linear ${disk} 0\n${half} ${sectors - half} error\n`
    const broken = await makeDm(lab, 'broken', table)
    const result = await runLoad(lab, args(broken, '--fresh', '--direct', '--tolerate', '--requests', '400'))
    expect(result.completed).toBe(400)
    expect(result.errors).toBeGreaterThan(100)
    expect(result.writes).toBeGreaterThan(50)
    await reloadDm(lab, 'broken', linear())
    await runLoad(lab, args(broken, '--direct', '--requests', '200'))
    await checkContent(lab, broken, state)
    await removeDm(lab, 'broken')
  }, 30_000)

  test('fails each second time loses nothing that it took', async () => {
    await zero(disk)
    const flaky = await makeDm(lab, 'flaky', `0 ${sectors} flakey ${disk} 0 1 1\n`)
    const load = start(flaky, '--direct', '--tolerate')
    await sleep(3000)
    const result = await load.stop()
    expect(result.errors).toBeGreaterThan(0)
    expect(result.writes).toBeGreaterThan(0)
    await reloadDm(lab, 'flaky', linear())
    await checkContent(lab, flaky, state)
    await removeDm(lab, 'flaky')
  }, 30_000)

  test.each(['direct', 'buffered'])(
    'hangs (%s) holds up neither counters nor a pause nor, once it goes on, an answer',
    async (how) => {
      await zero(disk)
      const hung = await makeDm(lab, 'hung', linear())
      const load = start(hung, '--flush-every', '10', ...(how === 'direct' ? ['--direct'] : []))
      await load.reached(30)
      await lab.check(['dmsetup', 'suspend', '--noflush', '--nolockfs', 'hung'])
      await sleep(1500)
      const { inflight } = await load.stats()
      expect(inflight).toBeGreaterThan(0)
      const paused = await load.pause()
      expect(paused.paused).toBe(1)
      expect(paused.inflight).toBeGreaterThan(0)
      await lab.check(['dmsetup', 'resume', '--noudevsync', 'hung'])
      for (const start = Date.now(); (await load.stats()).inflight > 0; await sleep(20))
        if (Date.now() - start > 5000) throw new Error('the paused queue is not drained 5 s after the disk went on')
      await load.resume()
      const result = await load.stop()
      expect(result.errors).toBe(0)
      expect(result.longestMs).toBeGreaterThan(1000)
      await checkContent(lab, hung, state)
      await removeDm(lab, 'hung')
    },
    30_000,
  )

  test('hangs lets its killed owner go once it goes on', async () => {
    const hung = await makeDm(lab, 'hung', linear())
    await zero(hung)
    const load = start(hung, '--direct')
    await load.reached(30)
    await lab.check(['dmsetup', 'suspend', '--noflush', '--nolockfs', 'hung'])
    await sleep(200)
    load.kill()
    await sleep(300)
    await lab.check(['dmsetup', 'resume', '--noudevsync', 'hung'])
    expect(await load.gone(5000)).toBe(137)
    await checkContent(lab, hung, state)
    await removeDm(lab, 'hung')
  }, 30_000)
})

/**
 * Whatever was held since then is given back; a load with hundreds of requests would leave far more than these bounds.
 * udev's workers hold files too, until they have been idle for some seconds.
 */
async function nothingLeft(before: Held): Promise<void> {
  let after = await held(lab)
  for (let tries = 0; tries < 8 && after.files - before.files >= 15; tries++) {
    await sleep(1000)
    after = await held(lab)
  }
  expect({ pins: after.pins, regions: after.regions }).toEqual({ pins: 0, regions: 0 })
  expect(after.bios - before.bios).toBeLessThan(50)
  expect(after.files - before.files).toBeLessThan(15)
  expect(after.kernelKib - before.kernelKib).toBeLessThan(1024)
}

describe('a disk that goes away', () => {
  test.each(['direct', 'buffered'])(
    'by SCSI, under a load (%s)',
    async (how) => {
      await lab.check(['modprobe', 'sd_mod'])
      const before = await held(lab)
      const scsi = await makeScsiDebug(lab, { dev_size_mb: 16, delay: 1 })
      const load = start(scsi, '--tolerate', '--blind', ...(how === 'direct' ? ['--direct'] : []))
      await load.reached(30)
      await script(lab, 'echo 1 >"/sys/block/$1/device/delete"', scsi.replace('/dev/', ''))
      await sleep(500)
      expect((await load.stop()).errors).toBeGreaterThan(0)
      // It goes only when nobody holds the disk, which udev may do for a moment.
      await script(
        lab,
        'for i in $(seq 50); do rmmod scsi_debug 2>/dev/null && exit; sleep 0.2; done; rmmod scsi_debug',
      )
      await nothingLeft(before)
    },
    40_000,
  )

  test('by NVMe, under a load', async () => {
    await lab.check(['truncate', '-s', `${size}`, '/run/nvme.img'])
    await lab.check(['modprobe', '-a', 'nvmet', 'nvme-loop'])
    const before = await held(lab)
    const nvme = await connectNvme(lab, 'faulty', '/run/nvme.img')
    const load = start(nvme, '--direct', '--tolerate')
    await load.reached(30)
    await disconnectNvme(lab, nvme)
    await sleep(500)
    expect((await load.stop()).errors).toBeGreaterThan(0)
    await removeNvmeTarget(lab, 'faulty')
    await checkContent(lab, '/run/nvme.img', state)
    await nothingLeft(before)
  }, 40_000)

  test('a loop device that is detached serves its users to their end', async () => {
    await lab.check(['truncate', '-s', `${size}`, '/run/loop.img'])
    const loop = await attachLoop(lab, '/run/loop.img')
    const load = start(loop, '--direct')
    await load.reached(30)
    await detachLoop(lab, loop)
    await load.reached(200)
    expect((await load.stop()).errors).toBe(0)
    await checkContent(lab, '/run/loop.img', state)
    expect(await lab.check(['losetup', '--list'])).toBe('')
  }, 40_000)
})

describe('a volume of a full thin pool', () => {
  const load = ['--direct', '--requests', '400', '--zeroes']
  let volume: string
  let grow: () => Promise<void>

  beforeEach(async () => {
    await lab.check(['modprobe', 'dm-thin-pool'])
    const metadata = await makeNullBlk(lab, 'thin-metadata', { size: 4, memory_backed: 1 })
    const table = (mib: number) => `0 ${mib * 2048} thin-pool ${metadata} ${disk} 128 0 1 error_if_no_space\n`
    const pool = await makeDm(lab, 'pool', table(3))
    await lab.check(['dmsetup', 'message', 'pool', '0', 'create_thin 0'])
    volume = await makeDm(lab, 'volume', `0 ${size / 512} thin ${pool} 0\n`)
    grow = () => reloadDm(lab, 'pool', table(32))
  }, 30_000)

  afterEach(async () => {
    await checkContent(lab, volume, state)
    await removeDm(lab, 'volume')
    await removeDm(lab, 'pool')
    await removeNullBlk(lab, 'thin-metadata')
  }, 30_000)

  test('fails its writes, and takes them once the pool has grown', async () => {
    const result = await runLoad(lab, args(volume, '--fresh', '--tolerate', ...load))
    expect(result.errors).toBeGreaterThan(10)
    expect(result.writes).toBeGreaterThan(10)
    await checkContent(lab, volume, state)
    await grow()
    expect((await runLoad(lab, args(volume, ...load))).errors).toBe(0)
  }, 40_000)

  test('has them held, if that is asked for, and loses none', async () => {
    const load = start(volume, '--direct', '--zeroes', '--hold-enospc')
    const until = async (what: string, done: (stats: LoadStats) => boolean, before?: () => Promise<unknown>) => {
      for (const since = Date.now(); !done(await load.stats()); await sleep(50)) {
        if (Date.now() - since > 20_000) throw new Error(`${what}: not so after 20 s`)
        await before?.()
      }
    }
    await until('the pool is full, and a write is held', ({ held }) => held > 0)
    const { writes } = await load.stats()
    await grow()
    // What was in flight when the pool was full may be held after the first retry.
    await until(
      'nothing is held, and all goes on',
      (now) => now.held === 0 && now.writes > writes + 200,
      () => load.retry(),
    )
    expect((await load.stop()).errors).toBe(0)
  }, 60_000)
})

describe('a file', () => {
  test.each([
    ['tmpfs', []],
    ['ext4', ['--direct']],
  ])(
    'on a full %s fails its writes, and takes them once there is room',
    async (type, how) => {
      const at = `/run/full-${type}`
      await lab.check(['mkdir', '-p', at])
      if (type === 'tmpfs') await lab.check(['mount', '-t', 'tmpfs', '-o', 'size=3M', 'tmpfs', at])
      else {
        await mountNew(lab, type, await makeNullBlk(lab, 'scant', { size: 16, memory_backed: 1 }), at)
        // Of about 14 MiB, leave one.
        await script(lab, 'fallocate -l $(($(stat -f -c "%a * %S" "$1") - 1048576)) "$1/ballast"', at)
      }
      await lab.check(['truncate', '-s', `${size}`, `${at}/image`])
      const load = ['--requests', '500', '--largest', '65536', ...how]
      const result = await runLoad(lab, args(`${at}/image`, '--fresh', '--tolerate', ...load))
      expect(result.errors).toBeGreaterThan(10)
      expect(result.writes).toBeGreaterThan(10)
      await checkContent(lab, `${at}/image`, state)
      if (type === 'tmpfs') await lab.check(['mount', '-o', 'remount,size=64M', at])
      else await lab.check(['rm', `${at}/ballast`])
      expect((await runLoad(lab, args(`${at}/image`, ...load))).errors).toBe(0)
      await checkContent(lab, `${at}/image`, state)
      await lab.check(['umount', at])
    },
    40_000,
  )

  test.each(['buffered', 'direct'])(
    'that is truncated under a load (%s) gives errors, and no hang',
    async (how) => {
      const image = '/run/ext4/truncated'
      await lab.check(['truncate', '-s', `${size}`, image])
      const load = start(image, '--reads-only', '--tolerate', ...(how === 'direct' ? ['--direct'] : []))
      await load.reached(30)
      await lab.check(['truncate', '-s', '1048576', image])
      const before = await load.stats()
      await load.reached(before.reads + 200)
      expect((await load.stats()).errors).toBeGreaterThan(before.errors)
      await lab.check(['truncate', '-s', `${size}`, image])
      await sleep(300)
      const mended = await load.stats()
      await load.reached(mended.reads + 100)
      expect((await load.stop()).errors).toBe(mended.errors)
      await lab.check(['rm', image])
    },
    40_000,
  )

  test.each(['buffered', 'direct'])(
    'on a frozen file system (%s) waits for the thaw',
    async (how) => {
      const image = '/run/ext4/frozen'
      await lab.check(['truncate', '-s', `${size}`, image])
      const load = start(image, '--zeroes', ...(how === 'direct' ? ['--direct'] : []))
      await load.reached(30)
      await lab.check(['fsfreeze', '--freeze', '/run/ext4'])
      await sleep(1200)
      await lab.check(['fsfreeze', '--unfreeze', '/run/ext4'])
      const result = await load.stop()
      expect(result.errors).toBe(0)
      expect(result.longestMs).toBeGreaterThan(1000)
      await checkContent(lab, image, state)
      await lab.check(['rm', image])
    },
    40_000,
  )
})

describe('an owner that is killed', () => {
  test('at any moment loses nothing that was answered, and leaves nothing behind', async () => {
    await lab.check(['truncate', '-s', `${size}`, '/run/ext4/killed'])
    await lab.check(['truncate', '-s', `${size}`, '/run/killed'])
    const loop = await attachLoop(lab, '/run/killed')
    await zero(disk)
    const victims: string[][] = [
      [disk, '--direct'],
      ['/run/ext4/killed', '--direct'],
      [loop],
      ['/run/ext4/killed'],
      [disk, '--direct', '--writethrough'],
    ]
    const begun = new Set<string>()
    let before = await held(lab)
    for (let round = 0; round < 20; round++) {
      // The first of each fill caches that stay filled.
      if (round === victims.length) before = await held(lab)
      const [file = '', ...how] = victims[round % victims.length] ?? []
      const own = `${state}-${file.replaceAll('/', '-')}`
      const fresh = begun.has(file) ? [] : ['--fresh']
      begun.add(file)
      const options = ['--file', file, '--state', own, '--size', `${size}`, '--zeroes', '--queues', '2', ...fresh]
      const load = new Load(lab, [...options, '--depth', '24', ...how])
      await load.reached(1)
      await sleep(Math.random() * 200)
      load.kill()
      expect(await load.gone(5000)).toBe(137)
      await checkContent(lab, file, own)
    }
    await nothingLeft(before)
    await detachLoop(lab, loop)
    // Neither is to be had while anything holds the files.
    await lab.check(['umount', '/run/ext4'])
    await script(lab, 'exec 3<>"$1"; flock --exclusive --nonblock 3', disk)
  }, 120_000)

  test('leaves the module to be unloaded, which it is not while in use', async () => {
    const load = start(disk, '--direct', '--blind')
    await load.reached(1)
    const { exitCode, stderr } = await lab.exec(['rmmod', 'vhost_blk'])
    expect(stderr).toMatch(/in use/)
    expect(exitCode).not.toBe(0)
    load.kill()
    await load.gone(5000)
    await lab.check(['rmmod', 'vhost_blk'])
    await lab.check(['modprobe', 'vhost_blk'])
  }, 30_000)
})
