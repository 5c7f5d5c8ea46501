// SPDX-License-Identifier: GPL-2.0-or-later

import { describe, expect, test } from '@jest/globals'
import { copyRequests } from '../../../src/ui/copy-storage-flag.ts'

describe('--copy-storage', () => {
  test('names a disk, and its image or none', () => {
    expect([...copyRequests(['a=/x=y', 'b'])]).toEqual([
      ['a', '/x=y'],
      ['b', undefined],
    ])
    expect(copyRequests(undefined).size).toBe(0)
    expect(copyRequests(['a=rel.raw']).get('a')).toBe(`${process.cwd()}/rel.raw`)
  })

  test.each([['=x'], ['a='], ['']])("'%s' is no disk and image", (value) => {
    expect(() => copyRequests([value])).toThrow(`--copy-storage: '${value}' is not DISK or DISK=PATH`)
  })

  test('a disk is given once', () => {
    expect(() => copyRequests(['a=/x', 'a'])).toThrow('--copy-storage: a is given twice')
  })
})
