// SPDX-License-Identifier: GPL-2.0-or-later
// A running guest is carried vhost-blk -> vhost-blk -> stock virtio-blk -> vhost-blk under a verifying load.
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import type { Guest } from '../lab/guest.ts'
import { Lab } from '../lab/lab.ts'
import { Disk, Migration, makeImage, startGuest } from './disk.ts'

jest.setTimeout(300_000)

let lab: Lab
let image: string
let guest: Guest
let disk: Disk

beforeAll(async () => {
  lab = await Lab.start()
  image = await makeImage(lab, 'migration')
  guest = await startGuest(lab, { name: 'first', memory: 160 })
  await guest.up()
  disk = await Disk.plug(guest, image)
  await guest.awaitDisk('vda')
  await disk.onKernel()
  await guest.check(['sh', '-c', 'echo "write through" >/sys/block/vda/cache_type'])
  await guest.startLoad('/dev/vda', ['-t', '2'])
})

afterAll(async () => {
  await guest?.kill()
  await lab?.stop()
})

/** Stock virtio-blk takes no write cache from the stream: its disk is given the guest's choice beforehand. */
async function destination(name: string, driver: string): Promise<[Guest, Disk]> {
  const next = await startGuest(lab, { name, memory: 160, incoming: true })
  const device = driver === 'virtio-blk-pci' ? { 'write-cache': 'off' } : {}
  return [next, await Disk.plug(next, image, { driver, device })]
}

/** Moves the guest and ends the source's QEMU. */
async function moveTo(name: string, driver: string): Promise<void> {
  const [next, nextDisk] = await destination(name, driver)
  const migration = new Migration(guest, next)
  await migration.begin()
  if (driver === 'vhost-blk-pci') expect(await nextDisk.get('vhost-active')).toBe(false)
  await migration.finish()
  await guest.kill()
  guest = next
  disk = nextDisk
}

const guestCache = async () => (await guest.check(['cat', '/sys/block/vda/cache_type'])).trim()

test('a migration cancelled before the switchover gives the disk back to the kernel', async () => {
  const [next] = await destination('unused', 'vhost-blk-pci')
  const migration = new Migration(guest, next)
  await migration.begin()
  expect(await disk.state()).toMatchObject({ active: false, 'running-queues': 0, errors: 0 })
  await migration.cancel()
  await disk.onKernel()
  await next.kill()
  expect(await guest.stopLoad()).toContain('vload: ok')
  await guest.startLoad('/dev/vda', ['-t', '2'])
})

test('kernel to kernel: the load runs on and the write cache stays off', async () => {
  await moveTo('second', 'vhost-blk-pci')
  expect(await disk.onKernel()).toMatchObject({ 'running-queues': 1, errors: 0 })
  expect(await disk.get('current-write-cache')).toBe(false)
  expect(await disk.get('original-write-cache')).toBe(true)
  expect(await guestCache()).toBe('write through')
  expect((await disk.state()).requests).toBeGreaterThan(0)
})

test('kernel to stock virtio-blk: the load runs on', async () => {
  await moveTo('third', 'virtio-blk-pci')
  expect(await guestCache()).toBe('write through')
})

test('stock virtio-blk to kernel: the write cache of the guest comes along', async () => {
  await moveTo('fourth', 'vhost-blk-pci')
  await disk.onKernel()
  expect(await guestCache()).toBe('write through')
  expect(await guest.stopLoad()).toContain('vload: ok')
  expect(await guest.kernelWarnings()).toEqual([])
  expect(await lab.kernelWarnings()).toEqual([])
})
