// SPDX-License-Identifier: GPL-2.0-or-later

import { Flags } from '@oclif/core'
import { type DetachResult, detachDisk } from '../disk/detach.ts'
import { BaseCommand, type Context } from '../ui/base-command.ts'
import { diskArgument, formatCommands, vmArgument } from '../ui/disk-text.ts'
import { withLockedVm } from '../vm/vm.ts'

export default class Detach extends BaseCommand<DetachResult> {
  static override summary = 'take a disk from a running VM'

  static override description = `Asks the guest to give up the disk, waits until it is gone, and removes its block node.
A guest can't be heard refusing: until it answers the request is pending (exit code 6), and asking again is safe.
Detaching a disk that is not there succeeds.`

  static override examples = ['<%= config.bin %> detach /run/vm1.qmp data --timeout 60']

  static override args = {
    vm: vmArgument(),
    id: diskArgument(),
  }

  static override flags = {
    'dry-run': Flags.boolean({ description: 'print the QMP commands and change nothing', default: false }),
  }

  static override defaultTimeout = 30

  protected override async execute(context: Context<typeof Detach>): Promise<DetachResult> {
    const { flags, args, signal, timeoutMs, progress, trace } = context
    return await withLockedVm(args.vm, { timeoutMs, signal, trace, warn: (message) => progress.warn(message) }, (vm) =>
      detachDisk(vm, args.id, { timeoutMs, signal, report: progress, dryRun: flags['dry-run'] }),
    )
  }

  protected override render({ id, changed, removed, keptNode, commands, dryRun }: DetachResult): string {
    if (dryRun && commands.length > 0) return formatCommands(commands)
    if (!changed) return `${id} is not attached: nothing to do`
    if (!removed.device) return `${id} was gone already; its block node is removed`
    return keptNode === null ? `${id} is detached` : `${id} is detached; its block node ${keptNode} stays`
  }
}
