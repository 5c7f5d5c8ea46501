// SPDX-License-Identifier: GPL-2.0-or-later

import { join } from 'node:path'
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import type { DiskInfo } from '../../src/disk/info.ts'
import { makeFolder, makeImage, Qemu, removeFolder, vblk } from './qemu.ts'

jest.setTimeout(120_000)

let dir: string
let qemu: Qemu
let image: string
let plain: string

beforeAll(async () => {
  dir = await makeFolder()
  image = await makeImage(join(dir, 'disk.raw'))
  plain = await makeImage(join(dir, 'plain.raw'), 1536 << 10)
  qemu = await Qemu.start(dir, 'vm', {
    hotplug: 'native',
    args: [
      ...['-blockdev', `raw,node-name=n0,read-only=on,file.driver=file,file.filename=${plain}`],
      ...['-device', 'virtio-blk-pci,drive=n0,write-cache=off'],
      '-S',
    ],
  })
})

afterAll(async () => {
  await qemu?.stop()
  await removeFolder(dir)
})

test('an empty VM has no disks, and that is no failure', async () => {
  const empty = await Qemu.start(dir, 'empty')
  expect(await vblk(['list', empty.socket])).toMatchObject({
    exitCode: 0,
    envelope: { ok: true, result: { disks: [] }, warnings: [] },
  })
  expect((await vblk(['list', empty.socket], { text: true })).stdout).toBe('no virtio disks\n')
  await empty.stop()
})

test('shows ours and a plain one, each with its datapath and why', async () => {
  await vblk(['attach', qemu.socket, image, '--id', 'd1', '--datapath', 'auto', '--cache', 'writeback'])
  const { exitCode, envelope } = await vblk<{ disks: DiskInfo[] }>(['list', qemu.socket])
  expect(exitCode).toBe(0)
  expect(envelope.result?.disks).toEqual([
    expect.objectContaining({
      id: 'd1',
      type: 'vhost-blk-pci',
      file: image,
      cache: 'writeback',
      writeCache: { original: 'writeback', current: 'writeback' },
      datapath: 'idle',
      reason: 'the VM runs without KVM',
      bus: 'rp1',
    }),
    expect.objectContaining({
      id: null,
      path: '/machine/peripheral-anon/device[0]',
      type: 'virtio-blk-pci',
      file: plain,
      sizeBytes: 1536 << 10,
      readOnly: true,
      writeCacheSetting: 'writethrough',
      writeCache: { original: null, current: null },
      datapathSetting: null,
      datapath: 'idle',
      reason: 'the VM is not running (prelaunch)',
      kernel: null,
    }),
  ])
  const { stdout } = await vblk(['list', qemu.socket], { text: true })
  const [header, first, second] = stdout.split('\n')
  expect(header).toMatch(/^ID +SIZE +MODE +CACHE +WRITE CACHE +BUS +REQUESTS +FILE +DATAPATH$/)
  expect(first).toMatch(
    /^d1 +8 MiB +rw +writeback +writeback +rp1 00\.0 +0 +\/.*disk\.raw +idle \(the VM runs without KVM\)$/,
  )
  expect(second).toMatch(/^- +1\.5 MiB +ro +writeback +- +pcie\.0 /)
  await vblk(['detach', qemu.socket, 'd1'])
})

test('a disk that the firmware drives is served by somebody', async () => {
  await qemu.qmp.execute('cont')
  let disk: DiskInfo | undefined
  for (const deadline = Date.now() + 20_000; disk?.datapath !== 'userspace' && Date.now() < deadline; ) {
    disk = (await vblk<{ disks: DiskInfo[] }>(['list', qemu.socket])).envelope.result?.disks[0]
  }
  expect(disk).toMatchObject({ datapath: 'userspace', reason: 'a virtio-blk-pci has no kernel datapath' })
})

test('a file name cannot draw on the terminal', async () => {
  const evil = await makeImage(join(dir, 'evil\u001b[31m\n.raw'))
  expect((await vblk(['attach', qemu.socket, evil, '--id', 'd1', '--datapath', 'userspace'])).exitCode).toBe(0)
  const { stdout } = await vblk(['list', qemu.socket], { text: true })
  expect(stdout).not.toContain('\u001b')
  expect(stdout.trimEnd().split('\n')).toHaveLength(3)
  await vblk(['detach', qemu.socket, 'd1'])
})
