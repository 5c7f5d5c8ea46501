// SPDX-License-Identifier: GPL-2.0-or-later

import { pause } from '../../disk/pause.ts'
import { ExitCode, VblkError } from '../../errors.ts'
import { chooseRecord, requireRecord } from '../../migration/journal/choose.ts'
import { isOpen, type MigrationRecord } from '../../migration/journal/record.ts'
import { FileStore } from '../../migration/journal/store.ts'
import { type MigrationSummary, summarize } from '../../migration/journal/summary.ts'
import { recover } from '../../migration/recover.ts'
import { requireSourceHost, withMigration } from '../../migration/with-migration.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { migrationArgument } from '../../ui/migration-text.ts'
import { peerFlag } from '../../ui/peer-flag.ts'

const pollMs = 100

interface Aborted {
  migration: MigrationSummary | null
  message: string
}

export default class MigrateAbort extends BaseCommand<Aborted> {
  static override summary = 'stop a migration that is under way, and wait until it is rolled back'

  static override description =
    `Interrupts the vblk that does it, as Ctrl-C would; one that is only prepared is undone. A migration that
has passed the point of no return goes on to its end, and the exit code is 5.`

  static override examples = ['<%= config.bin %> migrate abort', '<%= config.bin %> migrate abort --peer root@host1']

  static override args = { migration: migrationArgument() }

  static override flags = { peer: peerFlag() }

  protected override async execute(context: Context<typeof MigrateAbort>): Promise<Aborted> {
    const { args, signal, timeoutMs } = context
    const journal = new FileStore()
    const record = await chooseRecord(journal, args.migration)
    if (record === undefined) return { migration: null, message: 'no migration is open' }
    const summary = summarize(record)
    if (record.phase === 'rolled-back') return { migration: summary, message: 'it was rolled back already' }
    if (!isOpen(record) || record.phase === 'moved') throw moved(record.id)
    if (record.phase === 'handover' || record.phase === 'postcopy') throw noWayBack(record.id)
    if (record.phase === 'prepared') return await undo(record, journal, context)
    requireSourceHost(record, 'abort')
    if (summary.state !== 'under way' || record.coordinator === null) {
      throw new VblkError('MIGRATION_LEFT', ExitCode.Unknown, `no vblk works on migration ${record.id}`, {
        hint: `vblk migrate recover ${record.id}`,
      })
    }
    process.kill(record.coordinator.pid, 'SIGINT')
    const deadline = Date.now() + timeoutMs
    while (Date.now() < deadline) {
      const now = summarize((await chooseRecord(journal, record.id)) ?? record)
      if (now.phase === 'rolled-back') return { migration: now, message: 'rolled back' }
      if (now.phase === 'done') throw moved(record.id)
      if (now.state === 'left') break
      await pause(pollMs, signal)
    }
    throw new VblkError('MIGRATION_PENDING', ExitCode.TimedOut, `migration ${record.id} has not come to its end yet`, {
      hint: 'see: vblk migrate status',
    })
  }

  protected override render({ message }: Aborted): string {
    return message
  }
}

/** No vblk works on a migration that is only prepared. */
async function undo(
  record: MigrationRecord,
  store: FileStore,
  { flags, timeoutMs, progress, trace }: Context<typeof MigrateAbort>,
): Promise<Aborted> {
  const open = { timeoutMs, trace, warn: (message: string) => progress.warn(message) }
  const options = { ...open, journal: store, fenced: [], peer: flags.peer }
  const message = await withMigration(record, options, async ({ record: now, journal, found }) => {
    if (now.phase !== 'prepared') {
      throw new VblkError(
        'MIGRATION_ACTIVE',
        ExitCode.Busy,
        `migration ${now.id} has gone on meanwhile: ${now.phase}`,
        {
          hint: 'see: vblk migrate status',
        },
      )
    }
    return (await recover(now, { journal, report: progress, found, why: 'aborted before it was run' })).message
  })
  return { migration: summarize(await requireRecord(store, record.id)), message }
}

function moved(id: string): VblkError {
  return new VblkError('MIGRATION_DONE', ExitCode.Refused, `the VM of migration ${id} has moved already`, {
    hint: 'migrate it back',
  })
}

function noWayBack(id: string): VblkError {
  const words = `the VM of migration ${id} has memory at both sides, and only the destination can run it`
  return new VblkError('NO_WAY_BACK', ExitCode.Refused, words, {
    hint: `wait for the rest of its memory; if no vblk works on it: vblk migrate recover ${id}`,
  })
}
