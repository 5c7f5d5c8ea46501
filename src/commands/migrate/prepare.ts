// SPDX-License-Identifier: GPL-2.0-or-later

import { Args, Flags } from '@oclif/core'
import { type Prepared, prepareMigration } from '../../migration/in-parts.ts'
import { FileStore } from '../../migration/journal/store.ts'
import type { DryRun } from '../../migration/migrate.ts'
import { withTwoVms } from '../../migration/with-two-vms.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { vmArgument } from '../../ui/disk-text.ts'
import { renderDryRun } from '../../ui/migration-text.ts'
import { printable } from '../../ui/printable.ts'
import { tuningFlags, tuningOf } from '../../ui/tuning-flags.ts'

export default class MigratePrepare extends BaseCommand<Prepared | DryRun> {
  static override summary = 'make ready to move a VM: the first part of "vblk migrate", for scripts'

  static override description =
    `Makes all checks, makes the disks on the destination, sets what both QEMUs need, and prints the migration's id. The VM
goes on undisturbed until "vblk migrate run"; "vblk migrate abort" undoes it. Done once, it may be repeated: then it
checks, and prints the same id.`

  static override examples = [
    'id=$(<%= config.bin %> migrate prepare /run/vm1.qmp /run/vm1-new.qmp)',
    '<%= config.bin %> migrate prepare /run/vm1.qmp /run/vm1-new.qmp --downtime-limit 100 --dry-run',
  ]

  static override args = {
    vm: vmArgument(),
    destination: Args.string({
      description: 'QMP socket of the QEMU that takes it: a path, or ssh://HOST/PATH',
      required: true,
    }),
  }

  static override flags = {
    ...tuningFlags,
    'dry-run': Flags.boolean({ description: 'print the QMP commands of the whole migration and change nothing' }),
  }

  protected override async execute(context: Context<typeof MigratePrepare>): Promise<Prepared | DryRun> {
    const { flags, args, signal, timeoutMs, progress, trace } = context
    const open = { timeoutMs, signal, warn: (message: string) => progress.warn(message), trace }
    return await withTwoVms(args, open, (sides) =>
      prepareMigration(sides, {
        timeoutMs,
        signal,
        report: progress,
        journal: new FileStore(),
        dryRun: flags['dry-run'],
        keepSource: false,
        ...tuningOf(flags),
      }),
    )
  }

  protected override render(result: Prepared | DryRun): string {
    return 'dryRun' in result ? renderDryRun(result) : printable(result.migration)
  }
}
