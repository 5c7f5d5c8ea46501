// SPDX-License-Identifier: GPL-2.0-or-later

import { FileStore } from '../../migration/journal/store.ts'
import { type MigrationSummary, summarize } from '../../migration/journal/summary.ts'
import { BaseCommand } from '../../ui/base-command.ts'
import { table } from '../../ui/table.ts'

interface Status {
  migrations: MigrationSummary[]
}

export default class MigrateStatus extends BaseCommand<Status> {
  static override description =
    'show the migrations of this host that have not come to their end, and who owns the disks'
  static override examples = ['<%= config.bin %> migrate status', '<%= config.bin %> migrate status --json']

  protected override async execute(): Promise<Status> {
    const migrations = (await new FileStore().list()).map(summarize).filter(({ state }) => state !== 'over')
    return { migrations }
  }

  protected override render({ migrations }: Status): string {
    if (migrations.length === 0) return 'no migration is open'
    return table<MigrationSummary>(migrations, [
      { header: 'MIGRATION', value: ({ id }) => id },
      { header: 'STATE', value: ({ state }) => state },
      { header: 'PHASE', value: ({ phase }) => phase },
      { header: 'OWNER', value: ({ owner, ownerName }) => `${owner}: ${ownerName}` },
      { header: 'SINCE', value: ({ changedAt }) => changedAt },
    ])
  }
}
