// SPDX-License-Identifier: GPL-2.0-or-later

import type { MigrationRecord } from '../../../../src/migration/journal/record.ts'

/** The record of a migration that has just begun, but for what a test says. */
export const migrationRecord = (changes: Partial<MigrationRecord> = {}): MigrationRecord => ({
  format: 1,
  id: '00000000-0000-4000-8000-000000000001',
  source: { name: '/run/a.qmp', process: { pid: 4000000, startedAt: '1', boot: 'b' } },
  destination: { name: '/run/b.qmp', process: null },
  coordinator: null,
  phase: 'prepare',
  entered: [{ phase: 'prepare', at: '2026-01-01T00:00:00.000Z' }],
  owner: 'source',
  wasRunning: true,
  keepSource: false,
  disks: [],
  restore: [{ side: 'source', execute: 'migrate-set-parameters', arguments: { 'max-bandwidth': 2n ** 60n } }],
  channel: '/tmp/vblk-abcdef',
  outcome: null,
  ...changes,
})
