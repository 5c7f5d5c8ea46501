// SPDX-License-Identifier: GPL-2.0-or-later
// The module is exchanged under a running VM: its disks step to userspace, let go of the device, and return.
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import type { Guest } from '../lab/guest.ts'
import { Lab } from '../lab/lab.ts'
import { Disk, makeImage, startGuest } from './disk.ts'

jest.setTimeout(240_000)

let lab: Lab
let guest: Guest
const disks: Disk[] = []

beforeAll(async () => {
  lab = await Lab.start()
  guest = await startGuest(lab, { name: 'exchange' })
  await guest.up()
  for (const index of [0, 1]) {
    disks.push(await Disk.plug(guest, await makeImage(lab, `exchange${index}`), { index }))
    await guest.awaitDisk(`vd${'ab'[index]}`)
  }
})

afterAll(async () => {
  await guest?.kill()
  await lab?.stop()
})

const users = async () => Number((await lab.check(['cat', '/sys/module/vhost_blk/refcnt'])).trim())
const loadedSince = async () => (await lab.check(['stat', '-c', '%Y %i', '/sys/module/vhost_blk'])).trim()
const pattern = 'yes "$1" | head -c 262144'
const write = (words: string) =>
  guest.check(['sh', '-c', `${pattern} | dd of=/dev/vdb bs=65536 iflag=fullblock oflag=direct`, 'sh', words])
const readBack = async (words: string) =>
  await guest.exec([
    'sh',
    '-c',
    `${pattern} >/tmp/want; dd if=/dev/vdb bs=65536 count=4 iflag=direct | cmp - /tmp/want`,
    'sh',
    words,
  ])

test('a module in use by a disk can not be removed', async () => {
  for (const disk of disks) await disk.onKernel()
  expect(await users()).toBe(2)
  expect((await lab.exec(['rmmod', 'vhost_blk'])).stderr).toContain('in use')
})

test('under load: the disks leave the kernel and close it, the module is another, the disks return', async () => {
  await guest.startLoad('/dev/vda', ['-t', '2'])
  for (const round of [1, 2, 3]) {
    await write(`by the kernel, ${round}`)
    const before = await Promise.all(disks.map((disk) => disk.state()))
    for (const disk of disks) await disk.set('vhost-active', false)
    for (const disk of disks) {
      expect(await disk.state()).toMatchObject({ active: false, fds: '', reason: 'vhost-active was set to false' })
    }
    expect(await users()).toBe(0)
    const old = await loadedSince()
    await lab.check(['rmmod', 'vhost_blk'])
    expect((await readBack(`by the kernel, ${round}`)).exitCode).toBe(0)
    await write(`by QEMU, ${round}`)
    for (const disk of disks) await expect(disk.set('vhost-active', true)).rejects.toThrow('modprobe vhost_blk')
    await lab.check(['modprobe', 'vhost_blk'])
    expect(await loadedSince()).not.toBe(old)
    for (const disk of disks) await disk.set('vhost-active', true)
    for (const [i, disk] of disks.entries()) {
      const now = await disk.onKernel()
      expect(now.errors).toBe(0)
      expect(now.requests).toBeGreaterThanOrEqual(before[i]?.requests ?? Number.NaN)
    }
    expect((await readBack(`by QEMU, ${round}`)).exitCode).toBe(0)
  }
  expect(await guest.stopLoad()).toContain('vload: ok')
  expect(await guest.kernelWarnings()).toEqual([])
})

test('a stopped VM lets go as well', async () => {
  await guest.ask('stop')
  for (const disk of disks) await disk.set('vhost-active', false)
  await lab.check(['rmmod', 'vhost_blk'])
  await lab.check(['modprobe', 'vhost_blk'])
  for (const disk of disks) await disk.set('vhost-active', true)
  await guest.ask('cont')
  for (const disk of disks) await disk.onKernel()
  expect(await lab.kernelWarnings()).toEqual([])
})
