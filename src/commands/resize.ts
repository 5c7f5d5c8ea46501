// SPDX-License-Identifier: GPL-2.0-or-later

import { Args, Flags } from '@oclif/core'
import { type ResizeResult, resizeDisk } from '../disk/resize.ts'
import { parseSize } from '../disk/size.ts'
import { BaseCommand, type Context } from '../ui/base-command.ts'
import { diskArgument, formatCommands, formatSize, vmArgument } from '../ui/disk-text.ts'
import { withLockedVm } from '../vm/vm.ts'

export default class Resize extends BaseCommand<ResizeResult> {
  static override summary = 'give a disk of a running VM another size'

  static override description =
    `A file is made longer or shorter. A block device is extended before, by lvextend or the like; then the disk takes on
the size that the device has. Without SIZE the disk takes the size of its file or device.`

  static override examples = [
    '<%= config.bin %> resize /run/vm1.qmp data 20G',
    '<%= config.bin %> resize /run/vm1.qmp data +5G --dry-run',
    {
      description: 'after the logical volume below the disk was extended',
      command: '<%= config.bin %> resize /run/vm1.qmp data',
    },
  ]

  static override args = {
    vm: vmArgument(),
    id: diskArgument(),
    size: Args.string({ description: 'size like 20G (powers of 1024), in bytes without a unit, or +5G for 5G more' }),
  }

  static override flags = {
    shrink: Flags.boolean({ description: 'allow a smaller size: what lies at the end is lost', default: false }),
    'dry-run': Flags.boolean({ description: 'print the QMP commands and change nothing', default: false }),
  }

  static override defaultTimeout = 30

  protected override async execute(context: Context<typeof Resize>): Promise<ResizeResult> {
    const { args, flags, signal, timeoutMs, progress, trace } = context
    const size = args.size === undefined ? undefined : parseSize(args.size)
    const open = { timeoutMs, signal, trace, warn: (message: string) => progress.warn(message) }
    return await withLockedVm(args.vm, open, (vm) =>
      resizeDisk(vm, args.id, size, {
        timeoutMs,
        signal,
        report: progress,
        dryRun: flags['dry-run'],
        shrink: flags.shrink,
      }),
    )
  }

  protected override render({ id, changed, bytesBefore, bytes, commands, dryRun }: ResizeResult): string {
    if (dryRun && commands.length > 0) return formatCommands(commands)
    if (!changed) return `${id} has ${formatSize(bytes)} already`
    return `${id} has ${formatSize(bytes)} now, and had ${formatSize(bytesBefore)}`
  }
}
