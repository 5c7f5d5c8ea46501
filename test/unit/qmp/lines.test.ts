// SPDX-License-Identifier: GPL-2.0-or-later

import { expect, test } from '@jest/globals'
import { LineSplitter } from '../../../src/qmp/lines.ts'

test('joins a line from its pieces, even where a character is cut', () => {
  const splitter = new LineSplitter(100)
  const bytes = Buffer.from('one\ntwo é\nthree')
  const lines = [...bytes].flatMap((byte) => splitter.push(Buffer.from([byte])))
  expect(lines).toEqual(['one', 'two é'])
  expect(splitter.push(Buffer.from('\n\n'))).toEqual(['three', ''])
})

test('limits each line, not the stream', () => {
  const splitter = new LineSplitter(4)
  expect(splitter.push(Buffer.from('abcd\nabcd\n'))).toEqual(['abcd', 'abcd'])
  expect(splitter.push(Buffer.from('abc'))).toEqual([])
  expect(() => splitter.push(Buffer.from('de'))).toThrow(RangeError)
})
