// SPDX-License-Identifier: GPL-2.0-or-later

import { Args, Flags } from '@oclif/core'
import { FileStore } from '../migration/journal/store.ts'
import { type DryRun, migrate } from '../migration/migrate.ts'
import type { MigratedDisk, MigratedVm } from '../migration/result.ts'
import { withTwoVms } from '../migration/with-two-vms.ts'
import { BaseCommand, type Context } from '../ui/base-command.ts'
import { vmArgument } from '../ui/disk-text.ts'
import { printable } from '../ui/printable.ts'
import { pairs, table } from '../ui/table.ts'

const answerMs = 30_000

export default class Migrate extends BaseCommand<MigratedVm | DryRun> {
  static override summary = 'move a VM to another QEMU on this host'

  static override description =
    `Moves a running or paused VM with its memory to a QEMU that was started with the same arguments and -incoming defer.
Disks that vblk attached are made on the destination with the same id, slot and settings. Before device state is saved
every kernel backend must have stopped, and the destination runs only after its write caches were found as they were.
Whatever fails until then is rolled back: the VM goes on where it was, and the destination's QEMU is ended.`

  static override examples = [
    '<%= config.bin %> migrate /run/vm1.qmp /run/vm1-new.qmp',
    '<%= config.bin %> migrate /run/vm1.qmp /run/vm1-new.qmp --downtime-limit 100 --dry-run',
    '<%= config.bin %> migrate /run/vm1.qmp /run/vm1-new.qmp --multifd 4 --compress zstd --auto-converge',
  ]

  static override args = {
    vm: vmArgument(),
    destination: Args.string({ description: 'path of the QMP socket of the QEMU that takes it', required: true }),
  }

  static override flags = {
    'downtime-limit': Flags.integer({
      description: 'longest time that the guest may stand still, in milliseconds',
      helpValue: 'MS',
      min: 1,
      max: 2_000_000,
    }),
    bandwidth: Flags.integer({ description: 'bytes per second that may be sent', helpValue: 'BYTES', min: 1 }),
    'auto-converge': Flags.boolean({
      description: "slow the guest's processors down if its memory changes faster than it is sent",
    }),
    multifd: Flags.integer({ description: 'send memory through N channels at once', helpValue: 'N', min: 1, max: 255 }),
    compress: Flags.string({
      description: "compress what goes through --multifd's channels (2 unless that says more); zstd where QEMU has it",
      options: ['zlib', 'zstd'],
    }),
    'keep-source': Flags.boolean({ description: "leave the source's QEMU there, stopped, instead of ending it" }),
    'dry-run': Flags.boolean({ description: 'print the QMP commands and change nothing' }),
  }

  static override defaultTimeout = 600

  protected override async execute(context: Context<typeof Migrate>): Promise<MigratedVm | DryRun> {
    const { flags, args, signal, timeoutMs, progress, trace } = context
    const open = {
      timeoutMs: Math.min(timeoutMs, answerMs),
      signal,
      warn: (message: string) => progress.warn(message),
      trace,
    }
    return await withTwoVms(args, open, (sides) =>
      migrate(sides, {
        timeoutMs,
        signal,
        report: progress,
        journal: new FileStore(),
        dryRun: flags['dry-run'],
        downtimeLimitMs: flags['downtime-limit'],
        bandwidth: flags.bandwidth,
        autoConverge: flags['auto-converge'],
        multifdChannels: flags.multifd ?? (flags.compress === undefined ? undefined : 2),
        multifdCompression: flags.compress,
        keepSource: flags['keep-source'] === true,
      }),
    )
  }

  protected override render(result: MigratedVm | DryRun): string {
    return 'dryRun' in result ? renderDryRun(result) : renderMigrated(result)
  }
}

function renderDryRun({ commands }: DryRun): string {
  return commands
    .map(({ side, execute, arguments: args }) => `${side}: ${printable(JSON.stringify({ execute, arguments: args }))}`)
    .join('\n')
}

function renderMigrated({ destination, status, downtimeMs, totalMs, ramBytes, disks, source }: MigratedVm): string {
  const facts = pairs([
    ['VM', `${status} on ${destination}`],
    ['downtime', downtimeMs === null ? '-' : `${downtimeMs.toFixed(1)} ms`],
    ['migration', `${totalMs} ms, ${(ramBytes / 2 ** 20).toFixed(1)} MiB sent`],
    ['source', source === 'quit' ? 'ended' : 'kept, stopped: never start it again while the destination is there'],
  ])
  if (disks.length === 0) return facts
  const rows = table<MigratedDisk>(disks, [
    { header: 'DISK', value: ({ id }) => id ?? '-' },
    { header: 'DATAPATH', value: ({ datapath }) => change(datapath.before, datapath.after) },
    { header: 'WRITE CACHE', value: ({ writeCache }) => change(writeCache.before, writeCache.after) },
    { header: 'REASON', value: ({ reason }) => reason ?? '' },
  ])
  return `${facts}\n\n${rows}`
}

function change(before: string | null, after: string | null): string {
  return `${before ?? '?'} -> ${after ?? '?'}`
}
