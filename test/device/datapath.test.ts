// SPDX-License-Identifier: GPL-2.0-or-later
// One guest in the lab, and a disk that goes back and forth between the kernel and QEMU.

import { createHash } from 'node:crypto'
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals'
import type { Guest } from '../lab/guest.ts'
import { Lab } from '../lab/lab.ts'
import { Disk, eventually, makeImage, startGuest } from './disk.ts'

jest.setTimeout(240_000)

const MiB = 1 << 20
const long = process.env.VBLK_LONG === '1'

let lab: Lab
let guest: Guest
let image: string
let disk: Disk

beforeAll(async () => {
  lab = await Lab.start()
  image = await makeImage(lab, 'datapath')
  guest = await startGuest(lab, { name: 'datapath' })
  await guest.up()
  disk = await Disk.plug(guest, image, { file: { discard: 'unmap' }, raw: { discard: 'unmap' } })
  await guest.awaitDisk('vda')
})

afterAll(async () => {
  await guest?.kill()
  await lab?.stop()
})

afterEach(async () => {
  expect(await lab.kernelWarnings()).toEqual([])
  expect(await guest.kernelWarnings()).toEqual([])
})

/** Writes what `seed` determines to a block of the guest's disk, and returns the block's hash. */
async function writeBlock(block: number, seed: string): Promise<string> {
  const data = Buffer.alloc(4096, seed)
  await guest.check(['dd', 'of=/dev/vda', 'bs=4096', `seek=${block}`, 'conv=fsync,notrunc', 'oflag=direct'], {
    stdin: data,
  })
  return createHash('sha256').update(data).digest('hex')
}

const blockHash = 'dd if="$1" bs=4096 skip="$2" count=1 iflag=direct 2>/dev/null | sha256sum | cut -d" " -f1'
const hashInGuest = async (block: number) =>
  (await guest.check(['sh', '-c', blockHash, 'sh', '/dev/vda', String(block)])).trim()
const hashInImage = async (block: number) =>
  (await lab.check(['sh', '-c', blockHash, 'sh', image, String(block)])).trim()

describe('a hot-plugged disk', () => {
  test('is served by the kernel, as its own counters prove', async () => {
    const before = await disk.onKernel()
    expect(before).toMatchObject({ reason: '', 'running-queues': 1, errors: 0 })
    expect(before.fds).toMatch(/^\d+$/)
    const hash = await writeBlock(7, 'by the kernel')
    expect(await hashInGuest(7)).toBe(hash)
    expect(await hashInImage(7)).toBe(hash)
    const after = await disk.state()
    expect(after.requests).toBeGreaterThanOrEqual(before.requests + 3)
  })

  test('has the same serial and features from either datapath', async () => {
    const seen = async () => await guest.check(['sh', '-c', 'cat /sys/block/vda/serial /sys/block/vda/device/features'])
    await disk.set('vhost-active', true)
    const byKernel = await seen()
    expect(byKernel).toContain('LAB0001')
    await disk.set('vhost-active', false)
    expect(await seen()).toBe(byKernel)
    await disk.set('vhost-active', true)
  })

  test('discards by the kernel', async () => {
    await writeBlock(256, 'to be discarded')
    await guest.check(['blkdiscard', '-o', String(MiB), '-l', String(MiB), '/dev/vda'])
    expect(await hashInImage(256)).toBe(createHash('sha256').update(Buffer.alloc(4096)).digest('hex'))
    expect(await disk.state()).toMatchObject({ active: true, errors: 0 })
  })

  test('keeps its counters and its data over a switch to userspace and back', async () => {
    const before = await disk.onKernel()
    await disk.set('vhost-active', false)
    expect(await disk.state()).toMatchObject({
      active: false,
      reason: 'vhost-active was set to false',
      'running-queues': 0,
    })
    const hash = await writeBlock(9, 'by QEMU')
    expect((await disk.state()).requests).toBe(before.requests)
    await disk.set('vhost-active', true)
    expect(await hashInGuest(9)).toBe(hash)
    expect((await disk.state()).requests).toBeGreaterThan(before.requests)
  })
})

/** Flushes that L1's own disk, on which the images lie, has been sent. */
async function flushesOfHost(): Promise<number> {
  const fields = (await lab.check(['cat', '/sys/block/vda/stat'])).trim().split(/\s+/)
  return Number(fields[15])
}

test("a flush by QEMU covers what the kernel wrote, though QEMU's block layer saw no write", async () => {
  await disk.onKernel()
  await guest.check(['dd', 'if=/dev/urandom', 'of=/dev/vda', 'bs=4096', 'count=1', 'oflag=direct', 'conv=notrunc'])
  await disk.set('vhost-active', false)
  const before = await flushesOfHost()
  await guest.check(['dd', 'if=/dev/null', 'of=/dev/vda', 'conv=notrunc,fsync'])
  expect(await flushesOfHost()).toBeGreaterThan(before)
  await disk.set('vhost-active', true)
})

describe('under a verifying load', () => {
  test('switching back and forth loses nothing', async () => {
    await guest.startLoad('/dev/vda')
    const before = (await disk.onKernel()).requests
    for (let i = 0; i < (long ? 200 : 10); i++) {
      await disk.set('vhost-active', false)
      await disk.set('vhost-active', true)
    }
    expect((await disk.state()).requests).toBeGreaterThan(before)
    expect(await guest.stopLoad()).toContain('vload: ok')
    expect(await disk.state()).toMatchObject({ active: true, errors: 0 })
  })

  test('stop and cont lose nothing', async () => {
    await guest.startLoad('/dev/vda')
    for (let i = 0; i < 3; i++) {
      await guest.ask('stop')
      expect(await disk.state()).toMatchObject({ active: false, reason: 'the VM is stopped', 'running-queues': 0 })
      await guest.ask('cont')
      await disk.onKernel()
    }
    expect(await guest.stopLoad()).toContain('vload: ok')
  })

  test('a mirror job has the disk in userspace, copies all of it, and gives it back', async () => {
    const copy = await makeImage(lab, 'copy')
    await guest.startLoad('/dev/vda', ['-t', '2'])
    await guest.ask('blockdev-add', { driver: 'raw', 'node-name': 'copy0', file: { driver: 'file', filename: copy } })
    await guest.ask('blockdev-mirror', { 'job-id': 'job', device: 'raw0', target: 'copy0', sync: 'full' })
    await disk.onUserspace('mirror')
    await eventually(
      async () => (await guest.ask('query-block-jobs')) as { ready: boolean }[],
      ([job]) => job?.ready === true,
      60,
    )
    await guest.ask('stop')
    await guest.ask('block-job-cancel', { device: 'job' })
    await eventually(
      async () => (await guest.ask('query-block-jobs')) as unknown[],
      (jobs) => jobs.length === 0,
    )
    expect((await lab.exec(['cmp', image, copy])).stdout).toBe('')
    await guest.ask('cont')
    await disk.onKernel()
    await guest.ask('blockdev-del', { 'node-name': 'copy0' })
    expect(await guest.stopLoad()).toContain('vload: ok')
  })
})

describe('what the kernel must not bypass', () => {
  test('a dirty bitmap misses no write', async () => {
    await disk.onKernel()
    await guest.ask('block-dirty-bitmap-add', { node: 'raw0', name: 'bitmap' })
    await writeBlock(3, 'after the bitmap')
    await disk.onUserspace('dirty bitmap')
    const nodes = (await guest.ask('query-named-block-nodes', { flat: true })) as {
      'node-name': string
      'dirty-bitmaps'?: { count: number }[]
    }[]
    expect(nodes.find((node) => node['node-name'] === 'raw0')?.['dirty-bitmaps']?.[0]?.count).toBeGreaterThan(0)
    await guest.ask('block-dirty-bitmap-remove', { node: 'raw0', name: 'bitmap' })
    await disk.onKernel()
  })

  test('throttling takes the disk to userspace, from QMP and from HMP', async () => {
    const qdev = `/machine/peripheral/${disk.id}/virtio-backend`
    const limits = { bps: 0, bps_rd: 0, bps_wr: 0, iops: 0, iops_rd: 0, iops_wr: 0 }
    await guest.ask('block_set_io_throttle', { id: qdev, ...limits, iops: 1000 })
    await disk.onUserspace('throttled')
    await guest.ask('block_set_io_throttle', { id: qdev, ...limits })
    await disk.onKernel()
    await guest.ask('human-monitor-command', { 'command-line': `block_set_io_throttle ${qdev} 0 0 0 1000 0 0` })
    await disk.onUserspace('throttled')
    await guest.ask('human-monitor-command', { 'command-line': `block_set_io_throttle ${qdev} 0 0 0 0 0 0` })
    await disk.onKernel()
  })
})

describe('the disk as the guest sees it', () => {
  test('grows while the kernel serves it', async () => {
    await guest.ask('block_resize', { 'node-name': 'raw0', size: 80 * MiB })
    await eventually(
      async () => (await guest.check(['cat', '/sys/block/vda/size'])).trim(),
      (sectors) => sectors === String((80 * MiB) / 512),
    )
    const hash = await writeBlock((72 * MiB) / 4096, 'beyond the old end')
    expect(await hashInImage((72 * MiB) / 4096)).toBe(hash)
    expect(await disk.state()).toMatchObject({ active: true, errors: 0 })
  })

  test('turns its write cache off and on, and the kernel follows', async () => {
    expect(await disk.get('original-write-cache')).toBe(true)
    await guest.check(['sh', '-c', 'echo "write through" >/sys/block/vda/cache_type'])
    expect(await disk.get('current-write-cache')).toBe(false)
    expect(await disk.get('original-write-cache')).toBe(true)
    const hash = await writeBlock(11, 'written through')
    expect(await hashInImage(11)).toBe(hash)
    expect(await disk.state()).toMatchObject({ active: true, errors: 0 })
  })

  test('is back at its original write cache, on the kernel, after a reset', async () => {
    await guest.ask('system_reset')
    await disk.onUserspace('the guest has not started the disk')
    await disk.onKernel(60)
    await guest.up()
    await guest.awaitDisk('vda')
    expect(await disk.get('current-write-cache')).toBe(true)
    expect((await guest.check(['cat', '/sys/block/vda/cache_type'])).trim()).toBe('write back')
  })
})

describe('the end of a disk', () => {
  test('unplugged under load: gone, and its descriptor closed', async () => {
    await guest.startLoad('/dev/vda')
    await disk.onKernel()
    await disk.unplug()
    // It holds the disk's name in the guest as long as it lives.
    await guest.killLoad()
    await guest.awaitDisk('vda', false)
    await lab.check(['modprobe', '-r', 'vhost_blk'])
    await lab.check(['modprobe', 'vhost_blk'])
  })

  test('plugged again read-only: served by the kernel, and not writable', async () => {
    disk = await Disk.plug(guest, image, { raw: { 'read-only': true }, file: { 'read-only': true } })
    await guest.awaitDisk('vda')
    await disk.onKernel()
    expect((await guest.check(['cat', '/sys/block/vda/ro'])).trim()).toBe('1')
    expect(await hashInGuest(11)).toBe(await hashInImage(11))
    await disk.unplug()
    await guest.awaitDisk('vda', false)
  })

  test('an offset of the raw format is the kernel’s offset too', async () => {
    disk = await Disk.plug(guest, image, { raw: { offset: 8 * MiB, size: 16 * MiB } })
    await guest.awaitDisk('vda')
    await disk.onKernel()
    const hash = await writeBlock(5, 'at an offset')
    expect(await hashInImage((8 * MiB) / 4096 + 5)).toBe(hash)
    await disk.unplug()
    await guest.awaitDisk('vda', false)
  })

  test.each([
    ['qcow2', { driver: 'qcow2' }, "driver 'qcow2'"],
    ['werror=ignore', { device: { werror: 'ignore' } }, 'werror=ignore'],
  ])('%s is served from userspace, with the reason', async (name, options, words) => {
    const path = await makeImage(lab, `other-${name}`, 16)
    const raw = 'driver' in options ? { driver: options.driver } : {}
    if (name === 'qcow2') await lab.check(['qemu-img', 'create', '-f', 'qcow2', path, '16M'])
    disk = await Disk.plug(guest, path, { raw, ...('device' in options ? { device: options.device } : {}) })
    await guest.awaitDisk('vda')
    await disk.onUserspace(words)
    await expect(disk.set('vhost-active', true)).rejects.toThrow(words)
    await writeBlock(1, 'by QEMU')
    await disk.unplug()
    await guest.awaitDisk('vda', false)
  })

  test('QEMU killed under load leaves nothing behind', async () => {
    disk = await Disk.plug(guest, image)
    await guest.awaitDisk('vda')
    await guest.startLoad('/dev/vda')
    await disk.onKernel()
    await guest.kill()
    await lab.check(['modprobe', '-r', 'vhost_blk'])
    await lab.check(['modprobe', 'vhost_blk'])
    expect(await guest.alive()).toBe(false)
  })
})
