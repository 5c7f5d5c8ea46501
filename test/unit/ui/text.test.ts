// SPDX-License-Identifier: GPL-2.0-or-later
import { expect, test } from '@jest/globals'
import { printable } from '../../../src/ui/printable.ts'
import { pairs, table } from '../../../src/ui/table.ts'

test.each([
  ['plain ü 漢 🙂', 'plain ü 漢 🙂'],
  ['two\nlines\r\tand', 'two\\nlines\\r\\tand'],
  ['\u001b[2J\u0000\u007f\u009b', '\\x1b[2J\\x00\\x7f\\x9b'],
  ['a\u202eb\u2066c\u2028d', 'a\\u202eb\\u2066c\\u2028d'],
])('printable(%j)', (text, expected) => {
  expect(printable(text)).toBe(expected)
})

test('a table aligns its columns and makes its cells printable', () => {
  const rows = [
    { name: 'a', size: 5 },
    { name: 'lon\nger', size: 12345 },
  ]
  const text = table(rows, [
    { header: 'NAME', value: (row) => row.name },
    { header: 'SIZE', value: (row) => row.size, align: 'right' },
    { header: 'NOTE', value: () => '' },
  ])
  expect(text).toBe('NAME       SIZE  NOTE\na             5\nlon\\nger  12345')
})

test('pairs put the values in one column', () => {
  expect(
    pairs([
      ['a', 1],
      ['longer', ''],
    ]),
  ).toBe('a       1\nlonger')
})
