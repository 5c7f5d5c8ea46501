// SPDX-License-Identifier: GPL-2.0-or-later

import { Args } from '@oclif/core'
import { pause } from '../../disk/pause.ts'
import { ExitCode, VblkError } from '../../errors.ts'
import { chooseRecord } from '../../migration/journal/choose.ts'
import { isOpen } from '../../migration/journal/record.ts'
import { FileStore } from '../../migration/journal/store.ts'
import { type MigrationSummary, summarize } from '../../migration/journal/summary.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'

const pollMs = 100

interface Aborted {
  migration: MigrationSummary | null
  message: string
}

export default class MigrateAbort extends BaseCommand<Aborted> {
  static override summary = 'stop a migration that is under way, and wait until it is rolled back'

  static override description =
    `Interrupts the vblk that does it, as Ctrl-C would. A migration that has passed the point of no return goes on to
its end, and the exit code is 5.`

  static override examples = ['<%= config.bin %> migrate abort']

  static override args = {
    migration: Args.string({ description: 'its id, as "migrate status" shows it; may be left out if one is open' }),
  }

  protected override async execute({ args, signal, timeoutMs }: Context<typeof MigrateAbort>): Promise<Aborted> {
    const journal = new FileStore()
    const record = await chooseRecord(journal, args.migration)
    if (record === undefined) return { migration: null, message: 'no migration is open' }
    const summary = summarize(record)
    if (record.phase === 'rolled-back') return { migration: summary, message: 'it was rolled back already' }
    if (!isOpen(record)) throw moved(record.id)
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

function moved(id: string): VblkError {
  return new VblkError('MIGRATION_DONE', ExitCode.Refused, `the VM of migration ${id} has moved already`, {
    hint: 'migrate it back',
  })
}
