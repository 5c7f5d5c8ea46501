// SPDX-License-Identifier: GPL-2.0-or-later

import { describe, expect, test } from '@jest/globals'
import { capabilityChanges, parameterChanges } from '../../../src/migration/settings.ts'
import type { MigrationCapability } from '../../../src/qmp/index.ts'

const on = (capability: MigrationCapability) => ({ capability, state: true })
const off = (capability: MigrationCapability) => ({ capability, state: false })

describe('migration settings', () => {
  test('turn on only what is off, and back', () => {
    const now = [on('events'), off('pause-before-switchover'), off('multifd')]
    const set = (state: boolean) => ({
      side: 'source',
      execute: 'migrate-set-capabilities',
      arguments: { capabilities: [{ capability: 'pause-before-switchover', state }] },
    })
    const wanted: MigrationCapability[] = ['events', 'pause-before-switchover']
    expect(capabilityChanges('source', now, wanted)).toEqual({ apply: [set(true)], restore: [set(false)] })
  })

  test('are left alone where nothing is to be changed', () => {
    const nothing = { apply: [], restore: [] }
    const now = [on('events'), off('pause-before-switchover')]
    expect(capabilityChanges('destination', now, ['events'])).toEqual(nothing)
    expect(parameterChanges('source', { 'downtime-limit': 300 }, { 'downtime-limit': 300 })).toEqual(nothing)
    expect(parameterChanges('source', { 'downtime-limit': 300 }, {})).toEqual(nothing)
  })

  test('get back the values that they had', () => {
    const now = { 'downtime-limit': 300, 'max-bandwidth': 2n ** 60n, other: 1 }
    const { apply, restore } = parameterChanges('source', now, { 'downtime-limit': 50, 'max-bandwidth': 1000 })
    const set = (values: object) => ({ side: 'source', execute: 'migrate-set-parameters', arguments: values })
    expect(apply).toEqual([set({ 'downtime-limit': 50, 'max-bandwidth': 1000 })])
    expect(restore).toEqual([set({ 'downtime-limit': 300, 'max-bandwidth': 2n ** 60n })])
  })
})
