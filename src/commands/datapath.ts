// SPDX-License-Identifier: GPL-2.0-or-later

import { Args, Flags } from '@oclif/core'
import { requireDisk } from '../disk/info.ts'
import { type DatapathResult, switchDatapath } from '../disk/switch-datapath.ts'
import { BaseCommand, type Context } from '../ui/base-command.ts'
import { diskArgument, formatCommands, formatDatapath, vmArgument } from '../ui/disk-text.ts'
import { withLockedVm, withVm } from '../vm/vm.ts'

export default class Datapath extends BaseCommand<DatapathResult> {
  static override summary = 'show or switch who serves a disk of a running VM'

  static override description = `The guest notices nothing of the switch; requests in flight are waited for.
A disk switched to userspace stays there until it is switched to the kernel again.`

  static override examples = [
    '<%= config.bin %> datapath /run/vm1.qmp data',
    '<%= config.bin %> datapath /run/vm1.qmp data userspace',
    '<%= config.bin %> datapath /run/vm1.qmp data kernel --dry-run',
  ]

  static override args = {
    vm: vmArgument(),
    id: diskArgument(),
    datapath: Args.option({
      description: 'who shall serve it; shows who does unless given',
      options: ['kernel', 'userspace'] as const,
    })(),
  }

  static override flags = {
    'dry-run': Flags.boolean({ description: 'print the QMP commands and change nothing', default: false }),
  }

  static override defaultTimeout = 30

  protected override async execute(context: Context<typeof Datapath>): Promise<DatapathResult> {
    const { args, flags, signal, timeoutMs, progress, trace } = context
    const { id, datapath: target } = args
    const dryRun = flags['dry-run']
    if (target === undefined) {
      const disk = await withVm(args.vm, { timeoutMs, signal, trace }, (vm) => requireDisk(vm, id, { signal }))
      return { id, changed: false, disk, commands: [], dryRun }
    }
    const open = { timeoutMs, signal, trace, warn: (message: string) => progress.warn(message) }
    return await withLockedVm(args.vm, open, (vm) =>
      switchDatapath(vm, id, target, { timeoutMs, signal, report: progress, dryRun }),
    )
  }

  protected override render({ disk, commands, dryRun }: DatapathResult): string {
    return dryRun && commands.length > 0 ? formatCommands(commands) : formatDatapath(disk)
  }
}
