// SPDX-License-Identifier: GPL-2.0-or-later
// What a manager can wait for, and what an engineer can look at, without asking again and again.
import { afterAll, afterEach, beforeAll, expect, jest, test } from '@jest/globals'
import type { Guest } from '../lab/guest.ts'
import { Lab } from '../lab/lab.ts'
import { Disk, eventually, makeImage, startGuest } from './disk.ts'

jest.setTimeout(180_000)

let lab: Lab
let guest: Guest
let disk: Disk

beforeAll(async () => {
  lab = await Lab.start()
  guest = await startGuest(lab, { name: 'watching' })
  await guest.up()
  await guest.ask('query-status')
  disk = await Disk.plug(guest, await makeImage(lab, 'watching'))
  await guest.awaitDisk('vda')
  await disk.onKernel()
})

afterAll(async () => {
  await guest?.kill()
  await lab?.stop()
})

afterEach(async () => {
  expect(await lab.kernelWarnings()).toEqual([])
})

/** Waits until QEMU has told so many changes of the datapath, and no more; returns the last. */
async function changes(count: number): Promise<Record<string, unknown> | undefined> {
  const told = await eventually(
    async () => guest.events('VHOST_BLK_DATAPATH_CHANGE'),
    ({ length }) => length >= count,
  )
  expect(told).toHaveLength(count)
  return told.at(-1)?.data
}

test('an event tells who serves the disk from now on, and why', async () => {
  const device = { id: disk.id, 'qom-path': `/machine/peripheral/${disk.id}/virtio-backend` }
  expect(await changes(1)).toEqual({ ...device, active: true, reason: '' })
  await disk.set('vhost-active', false)
  expect(await changes(2)).toEqual({ ...device, active: false, reason: 'vhost-active was set to false' })
  await disk.set('vhost-active', true)
  expect(await changes(3)).toEqual({ ...device, active: true, reason: '' })
})

test('what a command does to the disk by the way is told, the same datapath again is not', async () => {
  const before = guest.events('VHOST_BLK_DATAPATH_CHANGE').length
  await guest.ask('stop')
  await guest.ask('cont')
  await disk.onKernel()
  await guest.ask('block-dirty-bitmap-add', { node: 'raw0', name: 'bitmap' })
  expect(await changes(before + 1)).toMatchObject({ active: false, reason: expect.stringContaining('dirty bitmap') })
  await guest.ask('block-dirty-bitmap-remove', { node: 'raw0', name: 'bitmap' })
  expect(await changes(before + 2)).toMatchObject({ active: true })
})

test('a switch can be followed in the trace, which is set while QEMU runs', async () => {
  const trace = { name: 'vhost_blk_*', enable: true }
  expect(await guest.qemuLog()).not.toContain('vhost_blk_')
  await guest.ask('trace-event-set-state', trace)
  await disk.set('vhost-active', false)
  await disk.set('vhost-active', true)
  await guest.ask('trace-event-set-state', { ...trace, enable: false })
  const lines = (await guest.qemuLog()).split('\n').filter((line) => line.includes('vhost_blk_'))
  const names = lines.map((line) => /vhost_blk_(\w+)/.exec(line)?.[1])
  const away = ['rest', 'pause', 'stop', 'close', 'datapath']
  const back = ['open', 'configure', 'resume', 'start', 'datapath']
  expect(names).toEqual([...away, ...back])
  expect(lines[4]).toMatch(/'disk' active 0 reason 'vhost-active was set to false'/)
})
