// SPDX-License-Identifier: GPL-2.0-or-later
// What only a real guest and a real module can show: a disk's life from attach to detach, and the ways in which it may fail.

import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, jest, test } from '@jest/globals'
import { Guest } from '../lab/guest.ts'
import { Lab } from '../lab/lab.ts'
import { tryVblk, vblk } from '../lab/vblk.ts'

jest.setTimeout(180_000)

interface Disk {
  id: string
  datapath: string
  readOnly: boolean
  kernel: { requests: number } | null
}

let lab: Lab
let guest: Guest
const image = '/var/lib/cli-test/disk.raw'

beforeAll(async () => {
  lab = await Lab.start()
  await lab.check(['install', '-d', '-m', '0700', '/var/lib/cli-test'])
  await lab.check(['truncate', '-s', '16M', image])
  guest = await Guest.start(lab, { name: 'cli' })
  await guest.up()
}, 300_000)

afterEach(async () => {
  expect(await lab.kernelWarnings()).toEqual([])
})

afterAll(async () => {
  await guest?.kill()
  await lab?.stop()
})

const disks = async () => (await vblk<{ disks: Disk[] }>(lab, ['list', guest.qmp])).disks

/** Names of QEMU's block nodes: what a failed command must not leave behind. */
const nodes = async () =>
  ((await guest.ask('query-named-block-nodes')) as { 'node-name': string }[]).map((node) => node['node-name'])

const attach = (file: string, ...flags: string[]) => ['attach', guest.qmp, file, '--id', 'd', ...flags]

test('without the module the kernel datapath is refused with the command that mends it, and nothing stays', async () => {
  const outcome = await tryVblk(lab, attach(image, '--datapath', 'kernel'))
  expect(outcome.exitCode).toBe(4)
  expect(`${outcome.error?.message} ${outcome.error?.hint}`).toContain('vblk module load')
  expect(await disks()).toEqual([])
  expect(await nodes()).toEqual([])
})

test('a disk attached through the kernel holds what the guest writes, and is gone after detach', async () => {
  await vblk(lab, ['module', 'load'])
  await vblk(lab, attach(image, '--serial', 'S-1'))
  await guest.awaitDisk('vda')
  await guest.check(['dd', 'if=/dev/urandom', 'of=/dev/vda', 'bs=1M', 'count=16', 'conv=fsync'])
  const hash = 'dd if="$1" bs=1M iflag=direct 2>/dev/null | sha256sum | cut -d" " -f1'
  const seen = (await guest.check(['sh', '-c', hash, 'sh', '/dev/vda'])).trim()
  expect(await guest.check(['cat', '/sys/block/vda/serial'])).toContain('S-1')
  const [disk] = await disks()
  expect(disk).toMatchObject({ id: 'd', datapath: 'kernel', readOnly: false })
  expect(disk?.kernel?.requests).toBeGreaterThan(16)

  expect(await vblk(lab, attach(image, '--serial', 'S-1'))).toMatchObject({ changed: false })
  expect((await tryVblk(lab, attach(image, '--serial', 'S-2'))).exitCode).toBe(5)

  await vblk(lab, ['detach', guest.qmp, 'd'])
  await guest.awaitDisk('vda', false)
  expect(await nodes()).toEqual([])
  expect((await lab.check(['sh', '-c', hash, 'sh', image])).trim()).toBe(seen)
  expect(await vblk(lab, ['detach', guest.qmp, 'd'])).toMatchObject({ changed: false })
})

test('a read-only medium is refused for writing, and serves a read-only disk', async () => {
  const loop = (await lab.check(['losetup', '--find', '--show', '--read-only', image])).trim()
  const outcome = await tryVblk(lab, attach(loop))
  expect(outcome.exitCode).toBe(5)
  expect(outcome.error?.message).toContain('read-only')
  expect(await nodes()).toEqual([])

  await vblk(lab, attach(loop, '--read-only'))
  await guest.awaitDisk('vda')
  expect((await guest.check(['cat', '/sys/block/vda/ro'])).trim()).toBe('1')
  expect(await disks()).toMatchObject([{ datapath: 'kernel', readOnly: true }])
  await vblk(lab, ['detach', guest.qmp, 'd'])
  await lab.check(['losetup', '--detach', loop])
})

test('a guest that does not answer the unplug leaves the detach pending; a later one finishes it', async () => {
  await vblk(lab, attach(image))
  await guest.awaitDisk('vda')
  await guest.ask('stop')
  const pending = await tryVblk(lab, ['detach', guest.qmp, 'd', '--timeout', '2'])
  expect(pending.exitCode).toBe(6)
  expect(`${pending.error?.message} ${pending.error?.hint}`).toContain('vblk detach')
  expect(await nodes()).not.toEqual([])

  await guest.ask('cont')
  await vblk(lab, ['detach', guest.qmp, 'd', '--timeout', '60'])
  await guest.awaitDisk('vda', false)
  expect(await nodes()).toEqual([])
})

/** Starts vblk, interrupts it once it shows the wanted line, and returns its exit status and output. */
async function interrupted(argv: string[], when: RegExp) {
  let output = ''
  const collect = (data: Buffer) => {
    output += data
  }
  const command = lab.spawn(['vblk', ...argv], { cwd: '/root', onOutput: collect, onError: collect })
  for (let i = 0; i < 600 && !when.test(output); i++) await sleep(50)
  command.kill(2)
  return { exitCode: await command.exited, output }
}

test('Ctrl-C in the middle of an attach removes what was added', async () => {
  // Without a driver in the guest the attach is still waiting when the signal comes.
  await guest.check(['rmmod', 'virtio_blk'])
  const { exitCode, output } = await interrupted(attach(image), /wait/i)
  await guest.check(['insmod', '/lib/modules/virtio_blk.ko'])
  expect({ exitCode, output }).toMatchObject({ exitCode: 130 })
  expect(await nodes()).toEqual([])
  expect(await disks()).toEqual([])
})

test('Ctrl-C in the middle of a detach says that it is pending', async () => {
  await vblk(lab, attach(image))
  await guest.awaitDisk('vda')
  await guest.ask('stop')
  const { exitCode, output } = await interrupted(['detach', guest.qmp, 'd'], /wait/i)
  expect({ exitCode, output }).toMatchObject({ exitCode: 6 })
  expect(output).toContain('vblk detach')
  await guest.ask('cont')
  await vblk(lab, ['detach', guest.qmp, 'd', '--timeout', '60'])
  expect(await nodes()).toEqual([])
})
