// SPDX-License-Identifier: GPL-2.0-or-later

import { Args, Flags } from '@oclif/core'
import type { VblkError } from '../../errors.ts'
import { checkMigration, type Preflight } from '../../migration/check.ts'
import type { Finding } from '../../migration/findings.ts'
import { FileStore } from '../../migration/journal/store.ts'
import { withTwoVms } from '../../migration/with-two-vms.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { copyRequests, copyStorageFlag } from '../../ui/copy-storage-flag.ts'
import { vmArgument } from '../../ui/disk-text.ts'
import { printable } from '../../ui/printable.ts'
import { table } from '../../ui/table.ts'

export default class MigratePreflight extends BaseCommand<Preflight> {
  static override summary = 'find out whether a VM can be moved to another QEMU, and change nothing'

  static override description =
    `Makes all checks that "vblk migrate" makes before the first byte, and tells at once what stands in the way.
The exit code is that of the first thing found.`

  static override examples = [
    '<%= config.bin %> migrate preflight /run/vm1.qmp /run/vm1-new.qmp',
    '<%= config.bin %> migrate preflight /run/vm1.qmp /run/vm1-new.qmp --json',
    '<%= config.bin %> migrate preflight /run/vm1.qmp /run/vm1-new.qmp --copy-storage data=/dev/vg1/data',
  ]

  static override args = {
    vm: vmArgument(),
    destination: Args.string({
      description: 'QMP socket of the QEMU that would take it: a path, or ssh://HOST/PATH',
      required: true,
    }),
  }

  static override flags = {
    'copy-storage': copyStorageFlag(),
    postcopy: Flags.boolean({
      description: 'also what a migration with --postcopy needs, as far as it can be told before',
    }),
  }

  static override defaultTimeout = 30

  protected override async execute(context: Context<typeof MigratePreflight>): Promise<Preflight> {
    const { args, flags, signal, timeoutMs, progress, trace } = context
    const copyStorage = copyRequests(flags['copy-storage'])
    const open = { timeoutMs, signal, warn: (message: string) => progress.warn(message), trace }
    return await withTwoVms(args, open, (sides) =>
      checkMigration(sides, {
        timeoutMs,
        signal,
        report: progress,
        journal: new FileStore(),
        keepSource: false,
        copyStorage,
        postcopy: flags.postcopy === true,
      }),
    )
  }

  protected override render({ vm, destination, disks }: Preflight): string {
    const verdict = printable(`${vm} can be moved to ${destination}`)
    if (disks.length === 0) return verdict
    const rows = table(disks, [
      { header: 'DISK', value: ({ id }) => id ?? '-' },
      { header: 'DATAPATH', value: ({ datapath }) => datapath },
      { header: 'ON THE DESTINATION', value: ({ made }) => (made ? 'will be made' : 'there') },
      ...(disks.some(({ copiedTo }) => copiedTo !== undefined)
        ? [{ header: 'COPIED TO', value: ({ copiedTo }: Preflight['disks'][number]) => copiedTo ?? '-' }]
        : []),
    ])
    return `${verdict}\n\n${rows}`
  }

  protected override renderFailure({ details }: VblkError): string {
    const findings = (details?.findings ?? []) as Finding[]
    return findings.map(({ message, hint }) => printable(hint === null ? message : `${message} (${hint})`)).join('\n')
  }
}
