// SPDX-License-Identifier: GPL-2.0-or-later
// A disk whose storage answers nothing for a while: its guest waits, QEMU and the monitor don't.
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals'
import type { Guest } from '../lab/guest.ts'
import { Lab } from '../lab/lab.ts'
import { Disk, eventually, startGuest } from './disk.ts'
import { Switchable } from './storage.ts'

jest.setTimeout(300_000)

let lab: Lab
let guest: Guest
let storage: Switchable
let disk: Disk

beforeAll(async () => {
  lab = await Lab.start()
  guest = await startGuest(lab, { name: 'hanging' })
  await guest.up()
  storage = await Switchable.make(lab, 'hanging')
  disk = await Disk.plug(guest, storage.path, { file: { driver: 'host_device' } })
  await guest.awaitDisk('vda')
})

afterAll(async () => {
  await guest?.kill()
  await lab?.stop()
})

afterEach(async () => {
  expect(await lab.kernelWarnings()).toEqual([])
})

/** Has the storage hang with requests of the verifying load in flight. */
async function hangUnderLoad(): Promise<void> {
  await guest.startLoad('/dev/vda', ['-t', '4', '-f', '0'])
  await disk.onKernel()
  await storage.hang()
  await eventually(
    () => disk.state(),
    ({ inflight }) => inflight > 0,
  )
}

/** What the monitor answers meanwhile, and how long that took in milliseconds. */
async function timed<T>(ask: () => Promise<T>): Promise<{ answer: T | Error; ms: number }> {
  const began = Date.now()
  const answer = await ask().catch((error: Error) => error)
  return { answer, ms: Date.now() - began }
}

/** Milliseconds. The emulated host is slow; what waits for the storage takes as long as that hangs, which is till it is told. */
const prompt = 40_000

test('vhost-active=false returns, says what it waits for, and is done when the storage goes on', async () => {
  await hangUnderLoad()
  expect((await timed(() => disk.set('vhost-active', false))).ms).toBeLessThan(prompt)
  const { answer, ms } = await timed(() => disk.state())
  expect(ms).toBeLessThan(prompt)
  expect(answer).toMatchObject({ active: false, 'running-queues': 1 })
  expect(answer).toHaveProperty(
    'reason',
    expect.stringMatching(/^vhost-active was set to false; \d+ requests in flight are awaited$/),
  )
  await sleep(2000)
  expect((await disk.state())['running-queues']).toBe(1)
  await storage.goOn()
  const state = await eventually(
    () => disk.state(),
    (now) => now['running-queues'] === 0,
  )
  expect(state).toMatchObject({ active: false, reason: 'vhost-active was set to false', inflight: 0, errors: 0 })
  await disk.set('vhost-active', true)
  await disk.onKernel()
  expect(await guest.stopLoad()).toContain('vload: ok')
})

test('a dirty bitmap is refused, since a write may be on its way, and possible afterwards', async () => {
  await hangUnderLoad()
  const bitmap = { node: 'raw0', name: 'bitmap' }
  const { answer, ms } = await timed(() => guest.ask('block-dirty-bitmap-add', bitmap))
  expect(ms).toBeLessThan(prompt)
  expect(String(answer)).toContain("'disk' has requests in flight that its storage does not answer")
  expect((await timed(() => guest.ask('query-block'))).ms).toBeLessThan(prompt)
  await storage.goOn()
  await disk.onKernel()
  await guest.ask('block-dirty-bitmap-add', bitmap)
  await disk.onUserspace('dirty bitmap')
  await guest.ask('block-dirty-bitmap-remove', bitmap)
  await disk.onKernel()
  expect(await guest.stopLoad()).toContain('vload: ok')
})

test('throttling is set at once, and holds from then on', async () => {
  const qdev = `/machine/peripheral/${disk.id}/virtio-backend`
  const limits = { id: qdev, bps: 0, bps_rd: 0, bps_wr: 0, iops: 0, iops_rd: 0, iops_wr: 0 }
  await hangUnderLoad()
  const { answer, ms } = await timed(() => guest.ask('block_set_io_throttle', { ...limits, iops: 1000 }))
  expect(answer).toEqual({})
  expect(ms).toBeLessThan(prompt)
  const state = await disk.state()
  expect(state.reason).toMatch(/^the disk is throttled; \d+ requests in flight are awaited$/)
  await storage.goOn()
  await disk.onUserspace('the disk is throttled')
  await guest.ask('block_set_io_throttle', limits)
  await disk.onKernel()
  expect(await guest.stopLoad()).toContain('vload: ok')
})

test('device_del is accepted, and the disk goes when the storage lets it', async () => {
  await hangUnderLoad()
  expect((await timed(() => guest.ask('device_del', { id: disk.id }))).ms).toBeLessThan(prompt)
  expect((await timed(() => guest.ask('query-status'))).ms).toBeLessThan(prompt)
  await storage.goOn()
  await eventually(
    async () => (await guest.ask('qom-list', { path: '/machine/peripheral' })) as { name: string }[],
    (children) => !children.some(({ name }) => name === disk.id),
  )
  await guest.killLoad()
  await disk.removeNodes()
  await guest.awaitDisk('vda', false)
})

describe('a QEMU that is told to end while its storage hangs', () => {
  const ends = {
    // It may go before its answer does; or answer and be busy.
    quit: (doomed: Guest) => doomed.ask('quit').catch(() => undefined),
    SIGTERM: (doomed: Guest) => doomed.terminate(),
  }
  /** Whether QEMU was still there, with its storage hanging, so many seconds after it was told to end. */
  const waited: Record<string, boolean> = {}
  const seconds = 3

  afterAll(async () => {
    await storage.remove()
    await lab.check(['modprobe', '-r', 'vhost_blk'])
    console.log(
      Object.entries(waited)
        .map(([name, was]) => `${name}: ${was ? 'waits for' : 'ends before'} its storage`)
        .join('\n'),
    )
  })

  test.each([
    ['virtio-blk-pci', 'quit'],
    ['virtio-blk-pci', 'SIGTERM'],
    ['vhost-blk-pci', 'quit'],
    ['vhost-blk-pci', 'SIGTERM'],
  ] as const)('%s, %s: as with stock virtio-blk, it ends when the storage lets it', async (driver, way) => {
    if (!(await guest.alive())) {
      guest = await startGuest(lab, { name: `${driver}-${way}` })
      await guest.up()
    }
    disk = await Disk.plug(guest, storage.path, { driver, file: { driver: 'host_device' } })
    await guest.awaitDisk('vda')
    if (driver === 'vhost-blk-pci') await hangUnderLoad()
    else {
      await guest.startLoad('/dev/vda', ['-t', '4', '-f', '0'])
      await storage.hang()
      // Nobody tells what it has in flight.
      await sleep(3000)
    }
    const told = ends[way](guest)
    await sleep(seconds * 1000)
    const alive = await guest.alive()
    waited[`${driver}, ${way}`] = alive
    // What stock QEMU does is the measure.
    if (driver === 'vhost-blk-pci') expect(alive).toBe(waited[`virtio-blk-pci, ${way}`])
    await storage.goOn()
    await told
    await eventually(
      () => guest.alive(),
      (now) => !now,
    )
  })
})
