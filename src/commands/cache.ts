// SPDX-License-Identifier: GPL-2.0-or-later

import { Args, Flags } from '@oclif/core'
import { requireDisk } from '../disk/info.ts'
import { setWriteCache, type WriteCacheResult, writeCacheOf } from '../disk/write-cache.ts'
import { BaseCommand, type Context } from '../ui/base-command.ts'
import { diskArgument, formatCommands, vmArgument } from '../ui/disk-text.ts'
import { withLockedVm, withVm } from '../vm/vm.ts'

export default class Cache extends BaseCommand<WriteCacheResult> {
  static override summary = 'show or set the write cache that a guest sees'

  static override description =
    `Shows the original write cache, which every reset restores, and the current one, which the guest may have chosen.
"off" (writethrough) holds at once and after every reset. "on" (writeback) holds from the guest's next reset: a guest that
relies on writethrough doesn't flush, and would lose what it wrote.`

  static override examples = [
    '<%= config.bin %> cache /run/vm1.qmp data',
    '<%= config.bin %> cache /run/vm1.qmp data off',
    '<%= config.bin %> cache /run/vm1.qmp data on --dry-run',
  ]

  static override args = {
    vm: vmArgument(),
    id: diskArgument(),
    state: Args.option({
      description: 'the write cache to set; shows it unless given',
      options: ['on', 'off'] as const,
    })(),
  }

  static override flags = {
    'dry-run': Flags.boolean({ description: 'print the QMP commands and change nothing', default: false }),
  }

  static override defaultTimeout = 30

  protected override async execute(context: Context<typeof Cache>): Promise<WriteCacheResult> {
    const { args, flags, signal, timeoutMs, progress, trace } = context
    const dryRun = flags['dry-run']
    if (args.state === undefined) {
      const disk = await withVm(args.vm, { timeoutMs, signal, trace }, (vm) => requireDisk(vm, args.id, { signal }))
      return writeCacheOf(disk, args.id, dryRun)
    }
    const target = args.state === 'on' ? 'writeback' : 'writethrough'
    const open = { timeoutMs, signal, trace, warn: (message: string) => progress.warn(message) }
    return await withLockedVm(args.vm, open, (vm) =>
      setWriteCache(vm, args.id, target, { timeoutMs, signal, report: progress, dryRun }),
    )
  }

  protected override render({ commands, dryRun, original, current, pending }: WriteCacheResult): string {
    if (dryRun && commands.length > 0) return formatCommands(commands)
    if (current === null) return "this device doesn't tell"
    return pending ? `${current} now, ${original} from the guest's next reset` : current
  }
}
