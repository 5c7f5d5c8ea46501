// SPDX-License-Identifier: GPL-2.0-or-later

import { Args, Flags } from '@oclif/core'
import { FileStore } from '../migration/journal/store.ts'
import { type DryRun, migrate } from '../migration/migrate.ts'
import type { MigratedVm } from '../migration/result.ts'
import { startDestination } from '../migration/start-destination.ts'
import { withTwoVms } from '../migration/with-two-vms.ts'
import { BaseCommand, type Context } from '../ui/base-command.ts'
import { copyRequests, copyStorageFlag } from '../ui/copy-storage-flag.ts'
import { vmArgument } from '../ui/disk-text.ts'
import { renderDryRun, renderMigrated } from '../ui/migration-text.ts'
import { tuningFlags, tuningOf } from '../ui/tuning-flags.ts'

const answerMs = 30_000

export default class Migrate extends BaseCommand<MigratedVm | DryRun> {
  static override summary = 'move a VM to another QEMU, on this host or another'

  static override description =
    `Moves a running or paused VM with its memory to a QEMU that was started with the same arguments and -incoming defer.
Disks that vblk attached are made on the destination with the same id, slot and settings. Before device state is saved
every kernel backend must have stopped, and the destination runs only after its write caches were found as they were.
Whatever fails until then is rolled back: the VM goes on where it was, and the destination's QEMU is ended.
A destination on another host is reached by ssh, which must work without a question and find the same vblk there. Both
hosts must have the very same disks, and both keep the migration's journal.
Between two QEMUs of one host, --copy-storage moves a disk's contents to another image: QEMU serves the disk while it is copied,
every write goes to both, and the source's image is left as it was at the switchover. --bandwidth and --timeout hold for it too.`

  static override examples = [
    '<%= config.bin %> migrate /run/vm1.qmp /run/vm1-new.qmp',
    '<%= config.bin %> migrate /run/vm1.qmp ssh://root@host2/run/vm1.qmp',
    '<%= config.bin %> migrate /run/vm1.qmp /run/vm1-new.qmp --downtime-limit 100 --dry-run',
    '<%= config.bin %> migrate /run/vm1.qmp /run/vm1-new.qmp --start-destination /etc/vms/vm1-incoming',
    '<%= config.bin %> migrate /run/vm1.qmp /run/vm1-new.qmp --copy-storage data=/dev/vg1/data --timeout 7200',
    '<%= config.bin %> migrate /run/vm1.qmp /run/vm1-new.qmp --multifd 4 --compress zstd --auto-converge',
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
    'copy-storage': copyStorageFlag(),
    'start-destination': Flags.string({
      description:
        'if nobody serves DESTINATION, run this program with its path, and end the QEMU if the VM can not move',
      helpValue: 'PROGRAM',
      exclusive: ['dry-run'],
    }),
    'keep-source': Flags.boolean({ description: "leave the source's QEMU there, stopped, instead of ending it" }),
    'dry-run': Flags.boolean({ description: 'print the QMP commands and change nothing' }),
  }

  static override defaultTimeout = 600

  protected override async execute(context: Context<typeof Migrate>): Promise<MigratedVm | DryRun> {
    const { flags, args, signal, timeoutMs, progress, trace } = context
    const copyStorage = copyRequests(flags['copy-storage'])
    const open = {
      timeoutMs: Math.min(timeoutMs, answerMs),
      signal,
      warn: (message: string) => progress.warn(message),
      trace,
      ...startBy(flags['start-destination'], context),
    }
    return await withTwoVms(args, open, (sides) =>
      migrate(sides, {
        timeoutMs,
        signal,
        report: progress,
        journal: new FileStore(),
        dryRun: flags['dry-run'],
        ...tuningOf(flags),
        keepSource: flags['keep-source'] === true,
        copyStorage,
      }),
    )
  }

  protected override render(result: MigratedVm | DryRun): string {
    return 'dryRun' in result ? renderDryRun(result) : renderMigrated(result)
  }
}

/** How the destination is started, if it is to be. */
function startBy(
  program: string | undefined,
  { signal, progress, timeoutMs }: Pick<Context, 'signal' | 'progress' | 'timeoutMs'>,
) {
  if (program === undefined) return {}
  const options = { signal, timeoutMs }
  return {
    start: (name: string) => progress.step(`starting ${name}`, () => startDestination(program, name, options)),
  }
}
