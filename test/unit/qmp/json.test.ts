// SPDX-License-Identifier: GPL-2.0-or-later

import { describe, expect, test } from '@jest/globals'
import { formatJson, parseJson } from '../../../src/qmp/json.ts'

describe('parseJson', () => {
  test.each([
    ['9007199254740991', 9007199254740991],
    ['-9007199254740991', -9007199254740991],
    ['9007199254740993', 9007199254740993n],
    ['-9223372036854775808', -9223372036854775808n],
    ['[18446744073709551615,1]', [18446744073709551615n, 1]],
    ['{"a":18446744073709551615}', { a: 18446744073709551615n }],
    ['1.2345678901234567890', 1.2345678901234567],
    ['12345678901234567890.5', Number('12345678901234567890.5')],
    ['1e1234567890123456', Number.POSITIVE_INFINITY],
    ['"18446744073709551615"', '18446744073709551615'],
    ['{"18446744073709551615":"x\\"18446744073709551615"}', { '18446744073709551615': 'x"18446744073709551615' }],
    ['["\\\\",18446744073709551615]', ['\\', 18446744073709551615n]],
  ])('%s', (text, value) => {
    expect(parseJson(text)).toEqual(value)
  })

  test.each(['', '{', '"18446744073709551615', '18446744073709551615 x', '"\\'])('refuses %j', (text) => {
    expect(() => parseJson(text)).toThrow(SyntaxError)
  })

  test('is not slowed down by long strings and many digits', () => {
    const text = JSON.stringify({ a: `${'\\"1234567890123456789'.repeat(200_000)}`, b: [1] })
    const start = Date.now()
    expect(parseJson(`{"x":18446744073709551615,"y":${text}}`)).toMatchObject({ x: 18446744073709551615n })
    expect(Date.now() - start).toBeLessThan(5000)
  })
})

describe('formatJson', () => {
  test('writes a bigint as a number, and only that', () => {
    expect(formatJson({ a: 18446744073709551615n, b: 'bigint:1', c: [-1n] })).toBe(
      '{"a":18446744073709551615,"b":"bigint:1","c":[-1]}',
    )
  })

  test('comes back as it went', () => {
    const value = { big: 2n ** 63n, text: '\u2028 "quoted" \n', list: [null, true, 0.5] }
    expect(parseJson(formatJson(value))).toEqual(value)
    expect(formatJson(value)).not.toContain('\n')
  })
})
