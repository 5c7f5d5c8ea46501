// SPDX-License-Identifier: GPL-2.0-or-later

import { Flags } from '@oclif/core'
import { FileStore } from '../../migration/journal/store.ts'
import { type MigrationSummary, summarize } from '../../migration/journal/summary.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { table } from '../../ui/table.ts'

interface History {
  migrations: MigrationSummary[]
}

export default class MigrateHistory extends BaseCommand<History> {
  static override description = 'list the migrations of this host, the latest last, with what became of them'
  static override examples = ['<%= config.bin %> migrate history', '<%= config.bin %> migrate history --last 1 --json']
  static override flags = {
    last: Flags.integer({ description: 'show only so many of them', helpValue: 'COUNT', min: 1 }),
  }

  protected override async execute({ flags }: Context<typeof MigrateHistory>): Promise<History> {
    const records = await new FileStore().list()
    return { migrations: records.slice(-(flags.last ?? records.length)).map(summarize) }
  }

  protected override render({ migrations }: History): string {
    if (migrations.length === 0) return 'no migration is known'
    return table<MigrationSummary>(migrations, [
      { header: 'STARTED', value: ({ startedAt }) => startedAt },
      { header: 'MIGRATION', value: ({ id }) => id },
      { header: 'PHASE', value: ({ phase }) => phase },
      { header: 'VM', value: ({ vm }) => vm ?? '?' },
      { header: 'OWNER', value: ({ owner, ownerName }) => `${owner}: ${ownerName}` },
      { header: 'DOWNTIME', value: ({ downtimeMs }) => (downtimeMs === null ? '-' : `${downtimeMs.toFixed(1)} ms`) },
      { header: 'ERROR', value: ({ error }) => error ?? '' },
    ])
  }
}
