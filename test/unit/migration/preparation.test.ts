// SPDX-License-Identifier: GPL-2.0-or-later

import { describe, expect, test } from '@jest/globals'
import { blockdevAddArguments } from '../../../src/disk/plan.ts'
import { planPreparation } from '../../../src/migration/preparation.ts'
import { diskInfo, diskNodes } from './disk.ts'

describe('the twin of a disk', () => {
  const properties = { serial: 'S1', 'num-queues': 2, vhost: 'on', physical_block_size: 4096 }

  test('has the same nodes, id, place and properties', () => {
    const { id, spec, device } = planPreparation({ disk: diskInfo(), properties }, diskNodes())
    expect(id).toBe('d1')
    expect(blockdevAddArguments(spec)).toMatchObject({
      driver: 'raw',
      'node-name': 'vblk-d1',
      'read-only': false,
      cache: { direct: true },
      file: { driver: 'file', 'node-name': 'vblk-d1-file', filename: '/disk.raw', aio: 'native' },
    })
    expect(device).toEqual({
      driver: 'vhost-blk-pci',
      id: 'd1',
      bus: 'rp1',
      addr: '00.0',
      drive: 'vblk-d1',
      serial: 'S1',
      'num-queues': 2,
      vhost: 'on',
      physical_block_size: 4096,
    })
  })

  test('is of a block device, read-only, through the page cache, if the disk is', () => {
    const disk = diskInfo({ readOnly: true, cache: 'writeback' })
    const { spec } = planPreparation({ disk, properties }, diskNodes({ drv: 'host_device' }))
    expect(blockdevAddArguments(spec)).toMatchObject({
      'read-only': true,
      cache: { direct: false },
      file: { driver: 'host_device', aio: 'threads', 'read-only': true },
    })
  })

  test('gets the original write cache where the default would bring another', () => {
    const writeCache = { original: 'writethrough', current: 'writeback' } as const
    expect(planPreparation({ disk: diskInfo({ writeCache }), properties }, diskNodes()).device).toMatchObject({
      'write-cache': 'off',
    })
    const given = { ...properties, 'write-cache': 'on' }
    const asked = { original: 'writeback', current: 'writethrough' } as const
    expect(
      planPreparation({ disk: diskInfo({ writeCache: asked }), properties: given }, diskNodes()).device,
    ).toMatchObject({ 'write-cache': 'on' })
  })

  test('gets descriptors of its own where the disk was passed some', () => {
    const twin = (filename: string) =>
      planPreparation(
        { disk: diskInfo(), properties: { ...properties, vhostdev: '/dev/fdset/1' } },
        diskNodes({ filename }),
      )
    expect(twin('/dev/fdset/0')).toMatchObject({ spec: { passFds: true, source: { file: '/disk.raw' } } })
    expect(twin('/dev/fdset/0').device).not.toHaveProperty('vhostdev')
    expect(twin('/disk.raw')).toMatchObject({ spec: { passFds: false }, device: { vhostdev: '/dev/fdset/1' } })
  })

  test.each([
    ['descriptors of somebody else', diskInfo({ file: '/dev/fdset/0' }), diskNodes({ filename: '/dev/fdset/0' })],
    ['descriptors of something without a path', diskInfo({ file: 'x' }), diskNodes({ filename: '/dev/fdset/0' })],
    ['another node', diskInfo({ node: 'n' }), diskNodes()],
    ['no name', diskInfo({ id: null, bus: 'rp1' }), diskNodes()],
    ["QEMU's own type", diskInfo({ type: 'virtio-blk-pci' }), diskNodes()],
    ['only a part of its file', diskInfo(), diskNodes({ bytes: 4096 })],
    ['a node of another driver', diskInfo(), diskNodes({ drv: 'nbd' })],
    ['a file that only options tell', diskInfo({ file: 'json:{}' }), diskNodes({ filename: 'json:{}' })],
    ['another file below', diskInfo(), diskNodes({ filename: '/other' })],
    ['flushes that are ignored', diskInfo({ cache: 'unsafe' }), diskNodes()],
    ['no nodes', diskInfo(), []],
  ])('is refused for a disk with %s', (_, disk, nodes) => {
    expect(() => planPreparation({ disk, properties }, nodes)).toThrow(/^the destination lacks .* can't copy$/)
  })
})
