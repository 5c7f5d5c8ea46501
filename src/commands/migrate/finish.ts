// SPDX-License-Identifier: GPL-2.0-or-later

import { Flags } from '@oclif/core'
import { isOfTwo } from '../../migration/hosts/with-hosts.ts'
import { finishMigration, isPast } from '../../migration/in-parts.ts'
import { requireRecord } from '../../migration/journal/choose.ts'
import { isOpen } from '../../migration/journal/record.ts'
import { FileStore } from '../../migration/journal/store.ts'
import { requireSides, withMigration } from '../../migration/with-migration.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { migrationArgument } from '../../ui/migration-text.ts'
import { peerFlag } from '../../ui/peer-flag.ts'

interface Finished {
  migration: string
  /** False if it was finished already. */
  changed: boolean
  /** What became of the source's QEMU; null if it was finished already. */
  source: 'quit' | 'kept' | null
}

export default class MigrateFinish extends BaseCommand<Finished> {
  static override summary = 'end a migration whose VM has moved: the third part of "vblk migrate"'

  static override description =
    `Puts the migration settings back and ends the source's QEMU. If that has been done already, nothing is done.`

  static override examples = [
    '<%= config.bin %> migrate finish',
    '<%= config.bin %> migrate finish "$id" --keep-source',
    '<%= config.bin %> migrate finish --peer root@host1',
  ]

  static override args = { migration: migrationArgument() }

  static override flags = {
    'keep-source': Flags.boolean({ description: "leave the source's QEMU there, stopped, instead of ending it" }),
    peer: peerFlag(),
  }

  protected override async execute(context: Context<typeof MigrateFinish>): Promise<Finished> {
    const { args, flags, signal, timeoutMs, progress, trace } = context
    const journal = new FileStore()
    const chosen = await requireRecord(journal, args.migration)
    const { id } = chosen
    // Of two hosts' journals the other one may know more.
    const isKnown = !isOfTwo(chosen) || !isOpen(chosen)
    if (isKnown && isPast(chosen, 'moved')) return { migration: id, changed: false, source: null }
    const open = { timeoutMs, signal, warn: (message: string) => progress.warn(message), trace }
    return await withMigration(chosen, { ...open, journal, fenced: [], peer: flags.peer }, async (found) => {
      const { record } = found
      if (isPast(record, 'moved')) return { migration: id, changed: false, source: null }
      const finish = { journal: found.journal, report: progress, keepSource: flags['keep-source'] === true }
      return {
        migration: id,
        changed: true,
        source: await finishMigration(record, requireSides(found, 'source'), finish),
      }
    })
  }

  protected override render({ source }: Finished): string {
    if (source === null) return 'it is finished already'
    return source === 'quit'
      ? "finished; the source's QEMU has ended"
      : 'finished; the source is kept, stopped: never start it again while the destination is there'
  }
}
