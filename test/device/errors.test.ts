// SPDX-License-Identifier: GPL-2.0-or-later
// Requests that the storage fails while the kernel serves the disk: the VM stops for them as with virtio-blk, or not.
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals'
import type { Guest } from '../lab/guest.ts'
import { Lab } from '../lab/lab.ts'
import { Disk, eventually, Migration, startGuest } from './disk.ts'
import { Crowded, Switchable } from './storage.ts'

jest.setTimeout(300_000)

let lab: Lab
let guest: Guest

beforeAll(async () => {
  lab = await Lab.start()
  guest = await startGuest(lab, { name: 'errors' })
  await guest.up()
})

afterAll(async () => {
  await guest?.kill()
  await lab?.stop()
})

/** Lines of the guest's log about a failed request; it must know of none that was held. */
const guestErrors = async () => (await guest.console()).split('\n').filter((line) => /I\/O error/.test(line))

const status = async (of: Guest) => ((await of.ask('query-status')) as { status: string }).status

async function ioStatus(of: Guest): Promise<string | undefined> {
  const blocks = (await of.ask('query-block')) as { qdev?: string; 'io-status'?: string }[]
  return blocks.find(({ qdev }) => qdev?.includes('/disk/'))?.['io-status']
}

/** Waits for the VM to stop for an error; the disk is then in userspace, with nothing left in the kernel. */
async function stopped(disk: Disk): Promise<void> {
  await eventually(
    () => status(guest),
    (now) => now === 'io-error',
    90,
  )
  expect(await disk.state()).toMatchObject({
    active: false,
    reason: 'failed requests wait to be tried again',
    'running-queues': 0,
  })
}

describe('a full file system, under the default werror=enospc', () => {
  let storage: Crowded
  let disk: Disk

  beforeAll(async () => {
    storage = await Crowded.make(lab, 'crowded')
    disk = await Disk.plug(guest, storage.image)
    await guest.awaitDisk('vda')
  })

  afterEach(async () => {
    expect(await lab.kernelWarnings()).toEqual([])
  })

  test('stops the VM, with the kernel serving until then', async () => {
    await guest.startLoad('/dev/vda', ['-t', '4'])
    expect(await disk.onKernel()).toMatchObject({ errors: 0 })
    await stopped(disk)
    expect(await ioStatus(guest)).toBe('nospace')
    expect((await disk.state()).requests).toBeGreaterThan(0)
  })

  test('stops it again at cont as long as there is no room', async () => {
    await guest.ask('cont')
    await stopped(disk)
    expect(await ioStatus(guest)).toBe('nospace')
  })

  test('goes with the VM when it migrates; there is room, and the load finds all its data', async () => {
    const next = await startGuest(lab, { name: 'errors-2', incoming: true })
    const nextDisk = await Disk.plug(next, storage.image)
    const migration = new Migration(guest, next)
    await migration.begin()
    await migration.complete()
    await guest.kill()
    guest = next
    disk = nextDisk
    expect(await disk.state()).toMatchObject({ active: false, reason: 'failed requests wait to be tried again' })
    await storage.makeRoom()
    await guest.ask('cont')
    await disk.onKernel()
    expect(await guest.stopLoad()).toContain('vload: ok')
    expect(await guestErrors()).toEqual([])
    await disk.unplug()
    await guest.awaitDisk('vda', false)
    await storage.remove()
  })
})

describe('a device that fails', () => {
  let storage: Switchable
  let disk: Disk

  const plug = async (policy: Record<string, string>) => {
    disk = await Disk.plug(guest, storage.path, { file: { driver: 'host_device' }, device: policy })
    await guest.awaitDisk('vda')
    await guest.startLoad('/dev/vda', ['-t', '4'])
    await disk.onKernel()
  }

  const unplug = async () => {
    await disk.unplug()
    await guest.awaitDisk('vda', false)
  }

  beforeAll(async () => {
    storage = await Switchable.make(lab, 'failing')
  })

  afterAll(async () => {
    await storage?.remove()
  })

  test('under werror=stop and rerror=stop stops the VM, and cont goes on as if nothing had been', async () => {
    await plug({ werror: 'stop', rerror: 'stop' })
    for (let i = 0; i < 3; i++) {
      await storage.fail(true)
      await stopped(disk)
      expect(await ioStatus(guest)).toBe('failed')
      await storage.fail(false)
      await guest.ask('cont')
      await disk.onKernel()
    }
    expect(await guest.stopLoad()).toContain('vload: ok')
    expect(await guestErrors()).toEqual([])
    await unplug()
  })

  test('a reset drops what waits, and the guest boots', async () => {
    await plug({ werror: 'stop', rerror: 'stop' })
    await storage.fail(true)
    await stopped(disk)
    await storage.fail(false)
    await guest.ask('system_reset')
    await guest.ask('cont')
    await guest.up()
    await guest.awaitDisk('vda')
    await disk.onKernel(60)
    await unplug()
  })

  test('under werror=report tells the guest, and the kernel serves on', async () => {
    await plug({ werror: 'report', rerror: 'report' })
    await storage.fail(true)
    await eventually(guestErrors, (lines) => lines.length > 0)
    await storage.fail(false)
    expect(await status(guest)).toBe('running')
    const state = await disk.state()
    expect(state.active).toBe(true)
    expect(state.errors).toBeGreaterThan(0)
    await guest.killLoad()
    await unplug()
  })

  test('under werror=ignore is served by QEMU', async () => {
    disk = await Disk.plug(guest, storage.path, { file: { driver: 'host_device' }, device: { werror: 'ignore' } })
    await guest.awaitDisk('vda')
    await disk.onUserspace("the kernel can't follow werror=ignore")
    await unplug()
  })
})
