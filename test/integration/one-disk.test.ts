// SPDX-License-Identifier: GPL-2.0-or-later
// The commands about one disk of a VM: show, datapath, cache, resize.

import { stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals'
import type { ShowResult } from '../../src/commands/show.ts'
import type { ResizeResult } from '../../src/disk/resize.ts'
import type { DatapathResult } from '../../src/disk/switch-datapath.ts'
import type { WriteCacheResult } from '../../src/disk/write-cache.ts'
import { makeFolder, makeImage, Qemu, removeFolder, vblk } from './qemu.ts'

jest.setTimeout(180_000)

const MiB = 1 << 20

let dir: string
let image: string
let qemu: Qemu

beforeAll(async () => {
  dir = await makeFolder()
  image = await makeImage(join(dir, 'disk.raw'))
  const plain = await makeImage(join(dir, 'plain.raw'))
  qemu = await Qemu.start(dir, 'vm', {
    args: [
      ...['-blockdev', `raw,node-name=n0,file.driver=file,file.filename=${plain}`],
      ...['-device', 'virtio-blk-pci,drive=n0,id=plain'],
    ],
  })
  const attach = ['attach', qemu.socket, image, '--id', 'd1', '--datapath', 'auto', '--serial', 'S1', '--timeout', '2']
  expect((await vblk(attach)).exitCode).toBe(0)
})

afterAll(async () => {
  await qemu?.stop()
  await removeFolder(dir)
})

describe('show', () => {
  test('tells what the disk is', async () => {
    const { exitCode, envelope } = await vblk<ShowResult>(['show', qemu.socket, 'd1'])
    expect(exitCode).toBe(0)
    expect(envelope.result?.disk).toMatchObject({
      id: 'd1',
      type: 'vhost-blk-pci',
      file: image,
      sizeBytes: 8 * MiB,
      serial: 'S1',
      datapath: 'idle',
      reason: 'the VM runs without KVM',
      kernel: { requests: 0, errors: 0 },
    })
    const { stdout } = await vblk(['show', qemu.socket, 'd1'], { text: true })
    expect(stdout).toMatch(/^id +d1$/m)
    expect(stdout).toMatch(/^size +8 MiB \(8388608 bytes\)$/m)
    expect(stdout).toMatch(/^datapath +idle \(the VM runs without KVM\), set to auto$/m)
  })

  test('a disk that is not there is not found, and the hint lists those that are', async () => {
    const { exitCode, envelope } = await vblk(['show', qemu.socket, 'nowhere'])
    expect(exitCode).toBe(3)
    expect(envelope.error).toMatchObject({ code: 'DISK_NOT_FOUND', hint: expect.stringContaining('vblk list') })
  })
})

describe('datapath', () => {
  const datapath = (...argv: string[]) => vblk<DatapathResult>(['datapath', qemu.socket, ...argv])

  test('shows who serves the disk', async () => {
    expect(await datapath('d1')).toMatchObject({
      exitCode: 0,
      envelope: { result: { changed: false, commands: [], disk: { datapath: 'idle' } } },
    })
    const { stdout } = await vblk(['datapath', qemu.socket, 'd1'], { text: true })
    expect(stdout).toBe('idle (the VM runs without KVM)\n')
  })

  test('the kernel is refused with the reason that it has', async () => {
    expect(await datapath('d1', 'kernel')).toMatchObject({
      exitCode: 5,
      envelope: { error: { message: "the kernel can't serve d1: the VM runs without KVM" } },
    })
    expect(await datapath('plain', 'kernel')).toMatchObject({
      exitCode: 5,
      envelope: { error: { code: 'NO_KERNEL_DATAPATH' } },
    })
  })

  test('--dry-run prints the command and does not send it', async () => {
    const { stdout } = await vblk(['datapath', qemu.socket, 'd1', 'kernel', '--dry-run'], { text: true })
    expect(JSON.parse(stdout)).toEqual({
      execute: 'qom-set',
      arguments: { path: '/machine/peripheral/d1', property: 'vhost-active', value: true },
    })
  })

  test.each(['d1', 'plain'])('userspace changes nothing for %s, which the kernel can never serve', async (id) => {
    expect(await datapath(id, 'userspace')).toMatchObject({ exitCode: 0, envelope: { result: { changed: false } } })
  })

  test('nonsense is refused before the VM is asked', async () => {
    expect((await datapath('d1', 'both')).exitCode).toBe(2)
    expect((await datapath('absent', 'userspace')).exitCode).toBe(3)
    expect((await vblk(['datapath', join(dir, 'none.sock'), 'd1', 'kernel'])).exitCode).toBe(3)
  })
})

describe('cache', () => {
  const cache = (...argv: string[]) => vblk<WriteCacheResult>(['cache', qemu.socket, ...argv])
  const property = (name: string, value: boolean) => ({
    execute: 'qom-set',
    arguments: { path: '/machine/peripheral/d1', property: name, value },
  })

  test('shows what the guest has and what a reset restores', async () => {
    expect(await cache('d1')).toMatchObject({
      exitCode: 0,
      envelope: { result: { changed: false, original: 'writeback', current: 'writeback', pending: false } },
    })
    expect((await vblk(['cache', qemu.socket, 'd1'], { text: true })).stdout).toBe('writeback\n')
    expect((await vblk(['cache', qemu.socket, 'plain'], { text: true })).stdout).toBe("this device doesn't tell\n")
  })

  test('--dry-run prints what would be sent, in a safe order', async () => {
    const { stdout } = await vblk(['cache', qemu.socket, 'd1', 'off', '--dry-run'], { text: true })
    expect(
      stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toEqual([property('current-write-cache', false), property('original-write-cache', false)])
    expect(await cache('d1')).toMatchObject({ envelope: { result: { current: 'writeback' } } })
  })

  test('off holds at once, on only from the next reset', async () => {
    expect(await cache('d1', 'off')).toMatchObject({
      exitCode: 0,
      envelope: { result: { changed: true, original: 'writethrough', current: 'writethrough', pending: false } },
    })
    expect(await cache('d1', 'off')).toMatchObject({ envelope: { result: { changed: false, commands: [] } } })
    await qemu.qmp.execute('system_reset')
    expect(await cache('d1')).toMatchObject({ envelope: { result: { current: 'writethrough' } } })

    expect(await cache('d1', 'on')).toMatchObject({
      exitCode: 0,
      envelope: { result: { changed: true, original: 'writeback', current: 'writethrough', pending: true } },
    })
    expect((await vblk(['cache', qemu.socket, 'd1'], { text: true })).stdout).toBe(
      "writethrough now, writeback from the guest's next reset\n",
    )
    // Stopped, so that the firmware, which negotiates no flush, doesn't drive the disk before one looks.
    await qemu.qmp.execute('stop')
    const reset = qemu.qmp.events(({ event }) => event === 'RESET')
    await qemu.qmp.execute('system_reset')
    await reset.next({ timeoutMs: 60_000 })
    reset.close()
    expect(await cache('d1', 'on')).toMatchObject({ envelope: { result: { changed: false, current: 'writeback' } } })
    await qemu.qmp.execute('cont')
  })

  test('QEMU never turns a write cache on under a guest', async () => {
    await cache('d1', 'off')
    const set = { path: '/machine/peripheral/d1', property: 'current-write-cache', value: true }
    await expect(qemu.qmp.execute('qom-set', set)).rejects.toThrow('only a reset turns the write cache on')
  })

  test('a plain virtio-blk is refused, what is not there is not found, nonsense is usage', async () => {
    expect(await cache('plain', 'off')).toMatchObject({
      exitCode: 5,
      envelope: { error: { code: 'WRITE_CACHE_FIXED' } },
    })
    expect((await cache('absent', 'off')).exitCode).toBe(3)
    expect((await cache('d1', 'maybe')).exitCode).toBe(2)
    expect((await vblk(['cache', join(dir, 'none.sock'), 'd1'])).exitCode).toBe(3)
  })
})

describe('resize', () => {
  const resize = (...argv: string[]) => vblk<ResizeResult>(['resize', qemu.socket, 'd1', ...argv])
  const fileBytes = async () => (await stat(image)).size
  const diskBytes = async () => (await vblk<ShowResult>(['show', qemu.socket, 'd1'])).envelope.result?.disk.sizeBytes

  test('makes the file longer, by so much or to so much', async () => {
    expect(await resize('16M')).toMatchObject({
      exitCode: 0,
      envelope: { result: { changed: true, bytesBefore: 8 * MiB, bytes: 16 * MiB }, warnings: [] },
    })
    expect([await fileBytes(), await diskBytes()]).toEqual([16 * MiB, 16 * MiB])
    expect((await vblk(['resize', qemu.socket, 'd1', '+4M'], { text: true })).stdout).toBe(
      'd1 has 20 MiB now, and had 16 MiB\n',
    )
    expect([await fileBytes(), await diskBytes()]).toEqual([20 * MiB, 20 * MiB])
    expect(await resize('20M')).toMatchObject({ exitCode: 0, envelope: { result: { changed: false, commands: [] } } })
  })

  test('makes it shorter only if told twice', async () => {
    expect(await resize('4M')).toMatchObject({
      exitCode: 5,
      envelope: { error: { code: 'WOULD_SHRINK', hint: expect.stringContaining('--shrink') } },
    })
    expect(await fileBytes()).toBe(20 * MiB)
    expect((await resize('4M', '--shrink')).exitCode).toBe(0)
    expect([await fileBytes(), await diskBytes()]).toEqual([4 * MiB, 4 * MiB])
  })

  test('without a size takes that of the file', async () => {
    await truncate(image, 12 * MiB)
    expect(await resize()).toMatchObject({ exitCode: 0, envelope: { result: { changed: true, bytes: 12 * MiB } } })
    expect(await diskBytes()).toBe(12 * MiB)
  })

  test('--dry-run changes nothing', async () => {
    const { envelope } = await resize('+1M', '--dry-run')
    expect(envelope.result).toMatchObject({
      changed: false,
      commands: [{ execute: 'block_resize', arguments: { 'node-name': 'vblk-d1', size: 13 * MiB } }],
    })
    expect(await fileBytes()).toBe(12 * MiB)
  })

  test('a job that uses the disk makes it busy', async () => {
    const target = await makeImage(join(dir, 'target.raw'), 12 * MiB)
    const execute = (command: string, args: object) =>
      qemu.qmp.execute(command as 'cont', args as Record<string, never>)
    await execute('blockdev-add', { driver: 'raw', 'node-name': 'target', file: { driver: 'file', filename: target } })
    await execute('blockdev-backup', { 'job-id': 'b', device: 'vblk-d1', target: 'target', sync: 'full', speed: 1 })
    expect(await resize('+1M')).toMatchObject({ exitCode: 9, envelope: { error: { code: 'DISK_BUSY' } } })
    expect(await fileBytes()).toBe(12 * MiB)
  })

  test.each([['10GB'], ['0'], ['513'], ['-5G']])('%s is no size', async (size) => {
    expect((await resize(size)).exitCode).toBe(2)
  })
})
