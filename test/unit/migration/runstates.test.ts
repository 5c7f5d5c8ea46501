// SPDX-License-Identifier: GPL-2.0-or-later

import { describe, expect, test } from '@jest/globals'
import { checkDestinationState, checkSourceState, isUnderWay } from '../../../src/migration/runstates.ts'
import type { MigrationStatus, RunState } from '../../../src/qmp/index.ts'

test.each<[MigrationStatus | undefined, boolean]>([
  [undefined, false],
  ['none', false],
  ['cancelled', false],
  ['failed', false],
  ['completed', false],
  ['setup', true],
  ['cancelling', true],
  ['pre-switchover', true],
  ['device', true],
  ['postcopy-paused', true],
])('a migration with status %s is under way: %s', (status, expected) => {
  expect(isUnderWay(status === undefined ? {} : { status })).toBe(expected)
})

describe('a source', () => {
  test('may run or be paused, and may have failed to migrate before', () => {
    for (const state of ['running', 'paused'] as const) {
      for (const status of ['none', 'cancelled', 'failed'] as const) {
        expect(() => checkSourceState('vm', state, { status })).not.toThrow()
      }
    }
  })

  test.each<[RunState, RegExp]>([
    ['postmigrate', /^vm: the VM is in state postmigrate: it was migrated already/],
    ['io-error', /^vm: the VM is in state io-error: only a running or paused VM can be migrated$/],
  ])('in state %s is refused', (state, message) => {
    expect(() => checkSourceState('vm', state, {})).toThrow(message)
  })

  test('that is being migrated is busy, whatever its state', () => {
    expect(() => checkSourceState('vm', 'finish-migrate', { status: 'device' })).toThrow(
      expect.objectContaining({ exitCode: 9, message: 'vm: a migration is under way (device)' }),
    )
  })

  test('that QEMU cannot migrate is refused with all reasons', () => {
    expect(() => checkSourceState('vm', 'running', { 'blocked-reasons': ['one', 'two'] })).toThrow(
      "vm: QEMU can't migrate it: one; two",
    )
  })
})

describe('a destination', () => {
  test('waits to be told', () => {
    expect(() => checkDestinationState('vm', 'inmigrate', {})).not.toThrow()
    expect(() => checkDestinationState('vm', 'inmigrate', { status: 'none' })).not.toThrow()
  })

  test.each<[RunState, MigrationStatus | undefined, RegExp]>([
    ['running', undefined, /a VM runs in it$/],
    ['io-error', undefined, /its VM is in state io-error$/],
    ['inmigrate', 'active', /takes one \(active\)$/],
    ['inmigrate', 'failed', /takes one \(failed\)$/],
  ])('in state %s %s is refused', (state, status, message) => {
    expect(() => checkDestinationState('vm', state, status === undefined ? {} : { status })).toThrow(message)
  })
})
