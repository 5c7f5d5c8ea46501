// SPDX-License-Identifier: GPL-2.0-or-later

import { mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { checkId, fileNodeName, nodeName } from '../../../src/disk/names.ts'
import { blockdevAddArguments, deviceAddArguments, removalCommands } from '../../../src/disk/plan.ts'
import { isSameSource } from '../../../src/disk/source.ts'
import { checkRequest, type DiskRequest } from '../../../src/disk/spec.ts'

let dir: string
let image: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'vblk-spec-'))
  image = join(dir, 'disk.raw')
  await writeFile(image, '')
  await truncate(image, 1 << 20)
})
afterAll(() => rm(dir, { recursive: true, force: true }))

const request = (changes: Partial<DiskRequest> = {}): DiskRequest => ({
  id: 'd1',
  file: image,
  readOnly: false,
  raw: false,
  cache: 'none',
  writeCache: 'auto',
  datapath: 'kernel',
  ...changes,
})

describe('names', () => {
  test('fit what QEMU allows', () => {
    const id = `a${'1'.repeat(20)}`
    expect(() => checkId(id)).not.toThrow()
    expect(Buffer.byteLength(fileNodeName(id))).toBe(31)
    expect(nodeName('d1')).toBe('vblk-d1')
  })

  test.each(['', '1a', '-a', 'a b', 'a/b', 'ä', 'a\n', 'a'.repeat(22)])('%j is refused', (id) => {
    expect(() => checkId(id)).toThrow(expect.objectContaining({ code: 'BAD_ID', exitCode: 2 }))
  })
})

describe('a request', () => {
  test('has an absolute path, and its kind and size', async () => {
    const file = relative(process.cwd(), image)
    expect((await checkRequest(request({ file }))).source).toEqual({ file: image, driver: 'file', sizeBytes: 1 << 20 })
  })

  test.each(['3', '03', '1f', '1F.7', '0.0'])('takes the address %s', async (addr) => {
    await expect(checkRequest(request({ addr }))).resolves.toMatchObject({ addr })
  })

  test.each(['20', '3.8', '', 'x', '0x3', '3.', '1.0.0'])('refuses the address %j', async (addr) => {
    await expect(checkRequest(request({ addr }))).rejects.toMatchObject({ code: 'BAD_ADDR', exitCode: 2 })
  })

  test.each([0, 65, 1.5, Number.NaN])('refuses %d queues', async (queues) => {
    await expect(checkRequest(request({ queues }))).rejects.toMatchObject({ code: 'BAD_QUEUES', exitCode: 2 })
  })

  test('is checked before its source is touched', async () => {
    await expect(checkRequest(request({ serial: 'ü', file: '/none' }))).rejects.toMatchObject({ code: 'BAD_SERIAL' })
  })
})

describe('two paths', () => {
  test('are the same source when they lead to the same file', async () => {
    await symlink(image, join(dir, 'link'))
    expect(await isSameSource(image, join(dir, 'link'))).toBe(true)
    expect(await isSameSource(image, '/dev/null')).toBe(false)
    expect(await isSameSource(image, join(dir, 'none'))).toBe(false)
    expect(await isSameSource('/none', '/none')).toBe(true)
  })
})

describe('the plan', () => {
  test('opens a read-only disk for reading only, and discards nothing', async () => {
    const spec = await checkRequest(request({ readOnly: true }))
    expect(blockdevAddArguments(spec)).toMatchObject({
      'read-only': true,
      discard: 'ignore',
      file: { 'read-only': true, 'auto-read-only': false, discard: 'ignore', aio: 'native', cache: { direct: true } },
    })
  })

  test('gives the driver of a block device', async () => {
    const spec = { ...(await checkRequest(request())), source: { file: '/dev/x', driver: 'host_device', sizeBytes: 1 } }
    expect(blockdevAddArguments(spec as never).file).toMatchObject({ driver: 'host_device', filename: '/dev/x' })
  })

  test.each([
    ['kernel', 'on'],
    ['userspace', 'off'],
    ['auto', 'auto'],
  ] as const)('says %s as vhost=%s', async (datapath, vhost) => {
    const spec = await checkRequest(request({ datapath, writeCache: 'writethrough', queues: 4, addr: '3' }))
    expect(deviceAddArguments(spec, 'rp1')).toEqual({
      driver: 'vhost-blk-pci',
      id: 'd1',
      bus: 'rp1',
      drive: 'vblk-d1',
      vhost,
      'write-cache': 'off',
      addr: '3',
      'num-queues': 4,
    })
  })

  test('removes the device before the node, and only what is there', () => {
    const names = (present: { device: boolean; node: boolean; sets?: number[] }) =>
      removalCommands('d1', { sets: [], ...present }).map(({ execute }) => execute)
    expect(names({ device: true, node: true })).toEqual(['device_del', 'blockdev-del'])
    expect(names({ device: false, node: true })).toEqual(['blockdev-del'])
    expect(names({ device: false, node: false })).toEqual([])
    expect(names({ device: false, node: false, sets: [0, 3] })).toEqual(['remove-fd', 'remove-fd'])
  })
})

describe('block sizes and limits', () => {
  test.each([
    [{ logicalBlockSize: 4096 }],
    [{ logicalBlockSize: 512, physicalBlockSize: 2 << 20 }],
    [{ physicalBlockSize: 4096 }],
  ])('%j is taken', async (sizes) => {
    await expect(checkRequest(request(sizes))).resolves.toMatchObject(sizes)
  })

  test.each([
    [{ logicalBlockSize: 0 }],
    [{ logicalBlockSize: -512 }],
    [{ logicalBlockSize: 256 }],
    [{ logicalBlockSize: 1000 }],
    [{ physicalBlockSize: 4 << 20 }],
    [{ logicalBlockSize: 4096, physicalBlockSize: 512 }],
  ])('%j is refused', async (sizes) => {
    await expect(checkRequest(request(sizes))).rejects.toMatchObject({ code: 'BAD_BLOCK_SIZE', exitCode: 2 })
  })

  test('a file whose end the guest could not reach is refused', async () => {
    const file = join(dir, 'odd.raw')
    await writeFile(file, Buffer.alloc(4608))
    await expect(checkRequest(request({ file, logicalBlockSize: 4096 }))).rejects.toMatchObject({
      code: 'SOURCE_SIZE',
      exitCode: 5,
    })
  })

  test('limits leave a disk to QEMU, and nobody can ask for both', async () => {
    const asked = request({ datapath: undefined, iops: 100 })
    await expect(checkRequest(asked)).resolves.toMatchObject({ datapath: 'auto' })
    await expect(checkRequest({ ...asked, datapath: 'kernel' })).rejects.toMatchObject({
      code: 'LIMITS_NEED_QEMU',
      exitCode: 2,
    })
    await expect(checkRequest(request({ datapath: undefined }))).resolves.toMatchObject({ datapath: 'kernel' })
    for (const iops of [0, -1, 1.5]) {
      await expect(checkRequest({ ...asked, iops })).rejects.toMatchObject({ code: 'BAD_LIMIT', exitCode: 2 })
    }
  })
})
