// SPDX-License-Identifier: GPL-2.0-or-later

import { expect, test } from '@jest/globals'
import { parseSize } from '../../../src/disk/size.ts'

test.each([
  ['1073741824', 2 ** 30, false],
  ['512B', 512, false],
  ['10G', 10 * 2 ** 30, false],
  ['10GiB', 10 * 2 ** 30, false],
  ['1.5t', 1.5 * 2 ** 40, false],
  ['0.5K', 512, false],
  ['+5G', 5 * 2 ** 30, true],
])('%s', (text, bytes, relative) => {
  expect(parseSize(text)).toEqual({ bytes, relative })
})

test.each([
  '',
  ' 1G',
  '1 G',
  '-1G',
  '+-1G',
  '0',
  '0G',
  '1GB',
  '1e9',
  '0x200',
  'G',
  '1..5G',
  'NaN',
  '１G',
  '1G\n',
  '9999999P',
])('no size: %j', (text) => {
  expect(() => parseSize(text)).toThrow(expect.objectContaining({ code: 'BAD_SIZE', exitCode: 2 }))
})

test.each(['511', '513', '1.0001K', '1.3G'])('no whole sectors: %s', (text) => {
  expect(() => parseSize(text)).toThrow(expect.objectContaining({ code: 'BAD_SIZE', exitCode: 2 }))
})
