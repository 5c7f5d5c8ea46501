// SPDX-License-Identifier: GPL-2.0-or-later
import { Flags } from '@oclif/core'
import type { LoadResult } from '../../host/module-load.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { printable } from '../../ui/printable.ts'

export default class ModuleLoad extends BaseCommand<LoadResult> {
  static override description =
    'load the kernel module\nLoads the installed module, else the one that `vblk module build` made. A loaded module is left as it is.'
  static override examples = [
    '<%= config.bin %> <%= command.id %>',
    '<%= config.bin %> <%= command.id %> --build-dir /var/tmp/vhost_blk --dry-run',
  ]
  static override flags = {
    'build-dir': Flags.string({ helpValue: 'DIR', description: 'load the module built there, not an installed one' }),
    'dry-run': Flags.boolean({ description: 'print what would be done and change nothing', default: false }),
  }

  protected async execute({ flags, signal, timeoutMs }: Context<typeof ModuleLoad>): Promise<LoadResult> {
    const { loadModule } = await import('../../host/module-load.ts')
    return loadModule(flags['build-dir'], { signal, timeoutMs, dryRun: flags['dry-run'] })
  }

  protected render({ changed, path, steps, dryRun }: LoadResult): string {
    if (dryRun && steps.length > 0) return steps.map(printable).join('\n')
    return changed ? `loaded ${printable(path ?? '')}` : 'loaded already'
  }
}
