// SPDX-License-Identifier: GPL-2.0-or-later
// A VM goes to another QEMU of its host with its memory handed over, not copied (migration mode cpr-transfer): its disk goes
// vhost-blk -> vhost-blk -> stock virtio-blk -> vhost-blk under a verifying load.
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import type { Guest } from '../lab/guest.ts'
import { Lab } from '../lab/lab.ts'
import { Disk, eventually, makeImage, startGuest } from './disk.ts'

jest.setTimeout(300_000)

type Driver = 'vhost-blk-pci' | 'virtio-blk-pci'

const memory = 192
/** Only memory that another process can map is handed over (docs/devel/migration/CPR.rst of QEMU's source). */
const sharedMemory = [
  ...['-object', `memory-backend-memfd,id=pc.ram,size=${memory}M,share=on`],
  ...['-machine', 'memory-backend=pc.ram,aux-ram-share=on'],
]

let lab: Lab
let image: string
let guest: Guest
let disk: Disk

beforeAll(async () => {
  lab = await Lab.start()
  image = await makeImage(lab, 'cpr')
  guest = await startGuest(lab, { name: 'cpr-0', memory, args: sharedMemory })
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

const address = (name: string, socket: string) => ({
  transport: 'socket',
  type: 'unix',
  path: `/run/guests/${name}/${socket}.sock`,
})
const channels = (name: string) => [
  { 'channel-type': 'main', addr: address(name, 'main') },
  { 'channel-type': 'cpr', addr: address(name, 'cpr') },
]

/**
 * Starts a QEMU that waits for a VM's memory. Until that has come it has no monitor: its disk is among its arguments. Stock
 * virtio-blk takes no write cache from the stream and is given it there.
 */
async function destination(name: string, driver: Driver): Promise<Guest> {
  const node = {
    driver: 'raw',
    'node-name': 'raw0',
    cache: { direct: true },
    file: { driver: 'file', filename: image },
  }
  const device = { driver, id: 'disk', drive: 'raw0', bus: 'port0', serial: 'LAB0001' }
  const cache = driver === 'virtio-blk-pci' ? { 'write-cache': 'off' } : {}
  const incoming = channels(name).flatMap((channel) => ['-incoming', JSON.stringify(channel)])
  const disks = ['-blockdev', JSON.stringify(node), '-device', JSON.stringify({ ...device, ...cache })]
  const args = [...sharedMemory, ...incoming, ...disks]
  return await startGuest(lab, { name, memory, boot: true, awaits: `/run/guests/${name}/cpr.sock`, args })
}

const migration = async (of: Guest) => (await of.ask('query-migrate')) as { status?: string; 'error-desc'?: string }
const isRunning = async (of: Guest) => ((await of.ask('query-status')) as { running: boolean }).running

async function send(to: Guest): Promise<void> {
  await guest.ask('migrate-set-parameters', { mode: 'cpr-transfer' })
  await guest.ask('migrate', { channels: channels(to.name) })
}

async function moveTo(name: string, driver: Driver): Promise<void> {
  const next = await destination(name, driver)
  await send(next)
  const { status, ...rest } = await eventually(
    () => migration(guest),
    (now) => ['completed', 'failed'].includes(now.status ?? ''),
  )
  if (status !== 'completed')
    throw new Error(`migration: ${status} ${JSON.stringify(rest)}\n${await guest.qemuLog()}\n${await next.qemuLog()}`)
  await eventually(
    () => isRunning(next),
    (is) => is,
  )
  expect(await isRunning(guest)).toBe(false)
  await guest.kill()
  guest = next
  disk = new Disk(guest)
}

const guestCache = async () => (await guest.check(['cat', '/sys/block/vda/cache_type'])).trim()

test('a destination that is gone leaves the VM, and its disk on the kernel', async () => {
  const next = await destination('cpr-gone', 'vhost-blk-pci')
  await next.kill()
  await expect(send(next)).rejects.toThrow(/Failed to connect/)
  await eventually(
    () => isRunning(guest),
    (is) => is,
  )
  expect(await disk.onKernel()).toMatchObject({ errors: 0 })
})

test('kernel to kernel: the load runs on and the write cache stays off', async () => {
  await moveTo('cpr-1', 'vhost-blk-pci')
  expect(await disk.onKernel()).toMatchObject({ 'running-queues': 1, errors: 0 })
  expect(await disk.get('current-write-cache')).toBe(false)
  expect(await disk.get('original-write-cache')).toBe(true)
  expect(await guestCache()).toBe('write through')
})

test('kernel to stock virtio-blk: the load runs on', async () => {
  await moveTo('cpr-2', 'virtio-blk-pci')
  expect(await guestCache()).toBe('write through')
})

test('stock virtio-blk to kernel: the write cache of the guest comes along', async () => {
  await moveTo('cpr-3', 'vhost-blk-pci')
  expect(await disk.onKernel()).toMatchObject({ errors: 0 })
  expect(await disk.get('current-write-cache')).toBe(false)
  expect(await guestCache()).toBe('write through')
  expect(await guest.stopLoad()).toContain('vload: ok')
  expect(await guest.kernelWarnings()).toEqual([])
  expect(await lab.kernelWarnings()).toEqual([])
})
