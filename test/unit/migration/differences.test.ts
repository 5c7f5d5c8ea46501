// SPDX-License-Identifier: GPL-2.0-or-later

import { describe, expect, test } from '@jest/globals'
import type { DiskInfo } from '../../../src/disk/info.ts'
import { diskDifferences, diskName, isCounterpart } from '../../../src/migration/differences.ts'
import { diskInfo } from './disk.ts'

const differences = (changes: Partial<DiskInfo>, properties = {}, sameFile = true) =>
  diskDifferences(
    { disk: diskInfo(), properties: { discard: false } },
    { disk: diskInfo(changes), properties },
    sameFile,
  )

describe('differences between a disk and its counterpart', () => {
  const same = { discard: false }

  test.each<[Partial<DiskInfo>, string]>([
    [{ sizeBytes: 512 }, 'size is 512 bytes, not 1024 bytes'],
    [{ sizeBytes: null }, 'size is none, not 1024 bytes'],
    [{ readOnly: true }, 'read-only is yes, not no'],
    [{ serial: '' }, 'serial is none, not S1'],
    [{ queues: 1 }, 'queues is 1, not 2'],
    [{ bus: 'rp2' }, 'bus is rp2, not rp1'],
    [{ addr: '01.0' }, 'address is 01.0, not 00.0'],
    [
      { writeCache: { original: 'writethrough', current: null } },
      'the original write cache is writethrough, not writeback',
    ],
  ])('%j', (changes, text) => {
    expect(differences(changes, same)).toEqual([text])
  })

  test('the file counts by what it is, not by its name', () => {
    expect(differences({ file: '/link.raw' }, same)).toEqual([])
    expect(differences({ file: '/other.raw' }, same, false)).toEqual(['file is /other.raw, not /disk.raw'])
  })

  test('what only the host sees does not count', () => {
    expect(
      differences(
        {
          type: 'virtio-blk-pci',
          node: 'n',
          cache: 'writeback',
          datapathSetting: null,
          datapath: 'idle',
          kernel: null,
        },
        { ...same, vhost: 'off', iothread: 'io1', bootindex: 3 },
      ),
    ).toEqual([])
  })

  test('what the guest sees does, whichever side has it', () => {
    expect(differences({}, { 'config-wce': false })).toEqual([
      'discard is at its default, not false',
      'config-wce is false, not at its default',
    ])
  })
})

test('counterparts go by id, and by place if neither has one', () => {
  expect(isCounterpart(diskInfo(), diskInfo({ bus: 'rp2' }))).toBe(true)
  expect(isCounterpart(diskInfo(), diskInfo({ id: 'd2' }))).toBe(false)
  expect(isCounterpart(diskInfo(), diskInfo({ id: null }))).toBe(false)
  expect(isCounterpart(diskInfo({ id: null }), diskInfo({ id: null }))).toBe(true)
  expect(isCounterpart(diskInfo({ id: null }), diskInfo({ id: null, addr: '02.0' }))).toBe(false)
})

test('a disk without an id is called by its place', () => {
  expect(diskName(diskInfo())).toBe('d1')
  expect(diskName(diskInfo({ id: null }))).toBe('the disk at rp1 00.0')
})
