// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../../errors.ts'
import { isOpen, type MigrationRecord } from './record.ts'
import type { JournalStore } from './store.ts'

/**
 * The record with an id, or the only open one when none is given; undefined when there is none open. Throws VblkError: exit
 * code 3 for an unknown id, 2 when several are open.
 */
export async function chooseRecord(store: JournalStore, id: string | undefined): Promise<MigrationRecord | undefined> {
  const records = await store.list()
  if (id !== undefined) {
    const found = records.find((record) => record.id === id)
    if (found !== undefined) return found
    throw new VblkError('MIGRATION_NOT_FOUND', ExitCode.NotFound, `no migration ${id} is known on this host`, {
      hint: 'see: vblk migrate history',
    })
  }
  const open = records.filter(isOpen)
  if (open.length <= 1) return open[0]
  throw new VblkError('MIGRATION_AMBIGUOUS', ExitCode.Usage, `${open.length} migrations are open; name one`, {
    hint: 'see: vblk migrate status',
    details: { migrations: open.map((each) => each.id) },
  })
}

/** The same, where one is needed. Throws VblkError (exit code 3) when none is open. */
export async function requireRecord(store: JournalStore, id: string | undefined): Promise<MigrationRecord> {
  const record = await chooseRecord(store, id)
  if (record !== undefined) return record
  throw new VblkError('MIGRATION_NOT_FOUND', ExitCode.NotFound, 'no migration is open', {
    hint: 'begin one: vblk migrate prepare',
  })
}
