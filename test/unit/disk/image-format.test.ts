// SPDX-License-Identifier: GPL-2.0-or-later

import { expect, test } from '@jest/globals'
import { detectFormat, headerBytes } from '../../../src/disk/image-format.ts'

const header = (text: string, at = 0) => {
  const bytes = Buffer.alloc(headerBytes)
  bytes.write(text, at, 'latin1')
  return bytes
}

test.each([
  ['qcow2', header('QFI\xfb\0\0\0\x03')],
  ['qed', header('QED\0')],
  ['vmdk', header('KDMV')],
  ['vmdk', header('# Disk DescriptorFile\n')],
  ['vdi', header('\x7f\x10\xda\xbe', 64)],
  ['vhdx', header('vhdxfile')],
  ['vpc', header('conectix')],
  ['luks', header('LUKS\xba\xbe\0\x02')],
  ['parallels', header('WithoutFreeSpace')],
])('knows %s', (format, bytes) => {
  expect(detectFormat(bytes)).toBe(format)
})

test.each([
  ['zeroes', Buffer.alloc(headerBytes)],
  ['a partition table', header('\x55\xaa', 510)],
  ['a magic in the wrong place', header('QFI\xfb', 1)],
  ['a file shorter than a magic', Buffer.from('QF')],
  ['an empty file', Buffer.alloc(0)],
])('takes %s for raw', (_what, bytes) => {
  expect(detectFormat(bytes)).toBeUndefined()
})
