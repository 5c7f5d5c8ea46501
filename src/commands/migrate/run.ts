// SPDX-License-Identifier: GPL-2.0-or-later

import { isOfTwo } from '../../migration/hosts/with-hosts.ts'
import { isPast, runMigration } from '../../migration/in-parts.ts'
import { requireRecord } from '../../migration/journal/choose.ts'
import { isOpen } from '../../migration/journal/record.ts'
import { FileStore } from '../../migration/journal/store.ts'
import type { MigratedVm } from '../../migration/result.ts'
import { requireSides, requireSourceHost, withMigration } from '../../migration/with-migration.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { migrationArgument, renderMigrated } from '../../ui/migration-text.ts'

interface Run {
  migration: string
  /** False if the VM had moved already. */
  changed: boolean
  /** Null if the VM had moved already. */
  moved: MigratedVm | null
}

const answerMs = 30_000

export default class MigrateRun extends BaseCommand<Run> {
  static override summary = 'move the VM of a prepared migration: the second part of "vblk migrate"'

  static override description =
    `Makes all checks again, moves the VM and lets it run at the destination. The source's QEMU stays there, stopped, until
"vblk migrate finish". Whatever fails before the VM runs is rolled back, and ends the migration: the VM goes on where it
was. If the VM has moved already, nothing is done.`

  static override examples = ['<%= config.bin %> migrate run', '<%= config.bin %> migrate run "$id" --timeout 3600']

  static override args = { migration: migrationArgument() }

  static override defaultTimeout = 600

  protected override async execute(context: Context<typeof MigrateRun>): Promise<Run> {
    const { args, signal, timeoutMs, progress, trace } = context
    const journal = new FileStore()
    const chosen = await requireRecord(journal, args.migration)
    const { id } = chosen
    // Of two hosts' journals the other one may know more.
    const isKnown = !isOfTwo(chosen) || !isOpen(chosen)
    if (isKnown && isPast(chosen, 'prepared')) return { migration: id, changed: false, moved: null }
    requireSourceHost(chosen, 'run')
    const warn = (message: string) => progress.warn(message)
    const outOfBand = chosen.tuning?.postcopy === true
    const link = { timeoutMs: Math.min(timeoutMs, answerMs), signal, warn, trace, outOfBand }
    return await withMigration(chosen, { ...link, journal, fenced: [] }, async (found) => {
      const { record } = found
      if (isPast(record, 'prepared')) return { migration: id, changed: false, moved: null }
      const moved = await runMigration(record, requireSides(found), {
        timeoutMs,
        signal,
        report: progress,
        journal: found.journal,
      })
      return { migration: id, changed: true, moved }
    })
  }

  protected override render({ moved }: Run): string {
    return moved === null ? 'the VM has moved already' : renderMigrated(moved)
  }
}
