// SPDX-License-Identifier: GPL-2.0-or-later

import { expect, test } from '@jest/globals'
import { millisecondsBetween } from '../../../src/migration/downtime.ts'

test('counts across a second, to the microsecond', () => {
  const stop = { seconds: 1795364087, microseconds: 999_750 }
  expect(millisecondsBetween(stop, { seconds: 1795364088, microseconds: 1000 })).toBe(1.25)
  expect(millisecondsBetween(stop, { seconds: 1795364097n, microseconds: 999_750n })).toBe(10_000)
})

test('knows nothing without two events that have a time', () => {
  const time = { seconds: 1, microseconds: 1 }
  expect(millisecondsBetween(undefined, time)).toBeNull()
  expect(millisecondsBetween(time, undefined)).toBeNull()
  expect(millisecondsBetween({ seconds: -1, microseconds: -1 }, time)).toBeNull()
})
