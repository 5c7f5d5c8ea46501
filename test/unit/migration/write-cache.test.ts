// SPDX-License-Identifier: GPL-2.0-or-later

import { describe, expect, test } from '@jest/globals'
import type { DiskInfo } from '../../../src/disk/info.ts'
import { writeCacheFault } from '../../../src/migration/write-cache.ts'

type Caches = DiskInfo['writeCache']
const back: Caches = { original: 'writeback', current: 'writeback' }
const through: Caches = { original: 'writeback', current: 'writethrough' }
const untold: Caches = { original: null, current: null }

describe('the write cache on the destination', () => {
  test.each([
    [back, back],
    [through, through],
    [untold, back],
    [untold, untold],
  ])('is right: %j, %j', (source, destination) => {
    expect(writeCacheFault(source, destination, 'auto')).toBeUndefined()
  })

  test('must be what the guest has chosen, in both directions', () => {
    expect(writeCacheFault(through, back, 'auto')).toBe('the write cache is writeback, not writethrough')
    expect(writeCacheFault(back, through, 'auto')).toBe('the write cache is writethrough, not writeback')
  })

  test('must be what a reset restores', () => {
    const other: Caches = { original: 'writethrough', current: 'writethrough' }
    expect(writeCacheFault(through, other, 'auto')).toBe('the original write cache is writethrough, not writeback')
  })

  test('of a device that forgets it must be writethrough if the guest believes so', () => {
    expect(writeCacheFault(back, untold, 'auto')).toBeUndefined()
    expect(writeCacheFault(through, untold, 'writethrough')).toBeUndefined()
    expect(writeCacheFault(through, untold, 'auto')).toMatch(/would turn it to writeback$/)
    expect(writeCacheFault(through, untold, 'writeback')).toMatch(/would turn it to writeback$/)
  })
})
