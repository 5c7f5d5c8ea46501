// SPDX-License-Identifier: GPL-2.0-or-later
// A QEMU that may open nothing itself: another user, in QEMU's own sandbox.

import { closeSync, constants, openSync } from 'node:fs'
import { chmod, readdir, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals'
import type { AttachResult } from '../../src/disk/attach.ts'
import type { DetachResult } from '../../src/disk/detach.ts'
import { sendFds } from '../../src/host/fd.ts'
import { QmpClient } from '../../src/qmp/index.ts'
import { findProcess } from '../../src/vm/qemu-process.ts'
import { makeFolder, makeImage, Qemu, removeFolder, type VblkOptions, vblk } from './qemu.ts'

jest.setTimeout(120_000)

let dir: string
let qemu: Qemu
let image: string

beforeAll(async () => {
  dir = await makeFolder()
  image = await makeImage(join(dir, 'private disk.raw'))
  await chmod(image, 0o600)
  const args = ['-run-with', 'user=nobody', '-sandbox', 'on,obsolete=deny,spawn=deny,resourcecontrol=deny']
  qemu = await Qemu.start(dir, 'vm', { hotplug: 'native', args })
})

afterAll(async () => {
  await qemu?.stop()
  await removeFolder(dir)
})

afterEach(async () => {
  await detach()
  expect(await sets()).toEqual([])
  expect(await opened()).toEqual([])
})

const attach = (argv: string[], options?: VblkOptions) =>
  vblk<AttachResult>(['attach', qemu.socket, ...argv, '--id', 'd1', '--datapath', 'auto'], options)
const detach = () => vblk<DetachResult>(['detach', qemu.socket, 'd1'])

/** The labels of the descriptors that QEMU was passed. */
async function sets(): Promise<(string | undefined)[]> {
  const all = await qemu.qmp.execute('query-fdsets')
  return all.flatMap(({ fds }) => fds.map(({ opaque }) => opaque))
}

/** QEMU's descriptors of the image. */
async function opened(): Promise<string[]> {
  const process = findProcess({ name: qemu.socket, qmp: qemu.qmp })
  if (!('pid' in process)) throw new Error(process.unknown)
  const fds = `/proc/${process.pid}/fd`
  const targets = await Promise.all((await readdir(fds)).map((fd) => readlink(join(fds, fd)).catch(() => '')))
  return targets.filter((target) => target === image)
}

const label = () => `vblk:d1:image:${image}`

describe('attach --pass-fd', () => {
  test('gives a disk to a QEMU that may not open it, under its own name, and detach leaves nothing open', async () => {
    const refused = await attach([image])
    expect([refused.exitCode, refused.envelope.error?.code]).toEqual([5, 'SOURCE_NOT_READABLE'])

    const { exitCode, envelope } = await attach([image, '--pass-fd'])
    expect([exitCode, envelope.warnings]).toEqual([0, []])
    const disk = { id: 'd1', file: image, sizeBytes: 8 << 20, cache: 'none', readOnly: false }
    expect(envelope.result).toMatchObject({ changed: true, disk })
    expect(await sets()).toEqual([label()])
    expect((await opened()).length).toBeGreaterThan(0)
    const list = await vblk<{ disks: unknown[] }>(['list', qemu.socket])
    expect(list.envelope.result?.disks).toMatchObject([disk])

    expect((await attach([image, '--pass-fd'])).envelope.result).toMatchObject({ changed: false })
    expect(await sets()).toEqual([label()])

    expect((await detach()).envelope.result).toMatchObject({ changed: true, removed: { device: true, node: true } })
    expect(await sets()).toEqual([])
    expect((await detach()).envelope.result).toMatchObject({ changed: false })
  })

  test('serves reading only from a descriptor that can do no more', async () => {
    const { envelope } = await attach([image, '--pass-fd', '--read-only', '--cache', 'writeback'])
    expect(envelope.result).toMatchObject({ changed: true, disk: { readOnly: true, cache: 'writeback', file: image } })
  })

  test('leaves no descriptor behind when it fails', async () => {
    const { exitCode, envelope } = await attach([image, '--pass-fd', '--bus', 'nowhere'])
    expect([exitCode, envelope.error?.code]).toEqual([5, 'NO_SUCH_BUS'])
    expect(await sets()).toEqual([])
  })

  test('touches no descriptors but its own', async () => {
    const other = await vblk(['attach', qemu.socket, image, '--id', 'd2', '--datapath', 'auto', '--pass-fd'])
    expect(other.exitCode).toBe(0)
    const twice = await attach([image, '--pass-fd'])
    expect([twice.exitCode, twice.envelope.error?.code]).toEqual([5, 'IMAGE_IN_USE'])
    expect(await sets()).toEqual([label().replace('d1', 'd2')])
    await vblk(['detach', qemu.socket, 'd2'])
  })

  test.each(['attach', 'detach'])('%s takes away what an attach that was killed has left', async (command) => {
    const client = await QmpClient.connect({ path: qemu.socket, sendFds })
    const fd = openSync(image, 'r+')
    await client.execute('add-fd', { opaque: label() }, { fds: [fd] })
    closeSync(fd)
    await client.close()
    expect((await opened()).length).toBe(1)

    const { envelope } = command === 'attach' ? await attach([image, '--pass-fd']) : await detach()
    expect(envelope.result).toMatchObject({ changed: true })
    expect(await sets()).toEqual(command === 'attach' ? [label()] : [])
  })

  test('--dry-run shows the descriptors and passes none', async () => {
    const { envelope } = await attach([image, '--pass-fd', '--dry-run'])
    expect(envelope.result?.commands).toMatchObject([
      { execute: 'add-fd', arguments: { 'fdset-id': 0, opaque: label() } },
      { execute: 'blockdev-add', arguments: { file: { filename: '/dev/fdset/0' } } },
      { execute: 'device_add' },
    ])
    expect(await sets()).toEqual([])
  })
})

describe('attach /dev/fd/3', () => {
  test('passes on what the descriptor that it was given has open', async () => {
    const descriptor = { file: image, flags: constants.O_RDWR }
    const { exitCode, envelope } = await attach(['/dev/fd/3'], { descriptor })
    expect([exitCode, envelope.error]).toEqual([0, undefined])
    expect(envelope.result).toMatchObject({ changed: true, disk: { file: image, readOnly: false } })
    expect((await attach([image, '--pass-fd'])).envelope.result).toMatchObject({ changed: false })
    // Each gets a lock of its own, though both come from one descriptor.
    const other = await vblk(['attach', qemu.socket, '/dev/fd/3', '--id', 'd2', '--datapath', 'auto'], { descriptor })
    expect([other.exitCode, other.envelope.error?.code]).toEqual([5, 'IMAGE_IN_USE'])
  })

  test.each<[what: string, flags: number, options: string[]]>([
    ['is not open for reading and writing', constants.O_RDONLY, []],
    ['is not open for reading and writing', constants.O_WRONLY, []],
    ['is not open for reading', constants.O_WRONLY, ['--read-only']],
    ['is not open for reading', 0o10000000, ['--read-only']],
  ])('refuses one that %s', async (what, flags, options) => {
    const { exitCode, envelope } = await attach(['/dev/fd/3', ...options], { descriptor: { file: image, flags } })
    expect([exitCode, envelope.error?.code]).toEqual([5, 'DESCRIPTOR_MODE'])
    expect(envelope.error?.message).toContain(what)
  })

  test('refuses one that is not open, in one line', async () => {
    const { exitCode, envelope } = await attach(['/dev/fd/77'])
    expect([exitCode, envelope.error?.code]).toEqual([3, 'NO_SUCH_DESCRIPTOR'])
    expect(envelope.error?.message).toBe('descriptor 77 is not open here')
  })
})
