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
    '<%= config.bin %> <%= command.id %> --build-dir /var/tmp/vhost_blk',
  ]
  static override flags = {
    'build-dir': Flags.string({ helpValue: 'DIR', description: 'load the module built there, not an installed one' }),
  }

  protected async execute({ flags, signal, timeoutMs }: Context<typeof ModuleLoad>): Promise<LoadResult> {
    const { loadModule } = await import('../../host/module-load.ts')
    return loadModule(flags['build-dir'], { signal, timeoutMs })
  }

  protected render({ changed, path }: LoadResult): string {
    return changed ? `loaded ${printable(path ?? '')}` : 'loaded already'
  }
}
