// SPDX-License-Identifier: GPL-2.0-or-later

import type { MigrationRecord } from '../journal/record.ts'
import { formatRecord } from '../journal/record.ts'
import type { JournalStore } from '../journal/store.ts'
import type { Sides } from '../options.ts'
import { hostOf } from './host-of.ts'
import type { OtherHost } from './other-host.ts'

/** The journal of a migration: on both hosts, if its QEMUs are on two. */
export function journalOf(sides: Sides, store: JournalStore): JournalStore {
  const there = hostOf(sides.destination) ?? hostOf(sides.source)
  return there === undefined ? store : new BothStores(store, there.host)
}

/** Writes every record to both hosts, and says that it is written once it is on both disks. */
export class BothStores implements JournalStore {
  readonly #here: JournalStore
  readonly #there: OtherHost

  constructor(here: JournalStore, there: OtherHost) {
    this.#here = here
    this.#there = there
  }

  /** Throws what either throws; the other has it all the same. */
  async write(record: MigrationRecord): Promise<void> {
    const written = await Promise.allSettled([
      this.#here.write(record),
      this.#there.ask('write', { record: formatRecord(record) }),
    ])
    for (const each of written) if (each.status === 'rejected') throw each.reason
  }

  list(): Promise<MigrationRecord[]> {
    return this.#here.list()
  }

  prune(): Promise<void> {
    return this.#here.prune()
  }
}
