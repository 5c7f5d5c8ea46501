// SPDX-License-Identifier: GPL-2.0-or-later
import { Flags } from '@oclif/core'
import type { UnloadResult } from '../../host/module-unload.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'

export default class ModuleUnload extends BaseCommand<UnloadResult> {
  static override description =
    'unload the kernel module\nExits with 9 and names the processes while disks use it. A module that is not loaded is left as it is.'
  static override examples = ['<%= config.bin %> <%= command.id %>', '<%= config.bin %> <%= command.id %> --dry-run']
  static override flags = {
    'dry-run': Flags.boolean({ description: 'print what would be done and change nothing', default: false }),
  }

  protected async execute({ flags, signal, timeoutMs }: Context<typeof ModuleUnload>): Promise<UnloadResult> {
    const { unloadModule } = await import('../../host/module-unload.ts')
    return unloadModule({ signal, timeoutMs, dryRun: flags['dry-run'] })
  }

  protected render({ changed, steps, dryRun }: UnloadResult): string {
    if (dryRun && steps.length > 0) return steps.join('\n')
    return changed ? 'unloaded' : 'not loaded'
  }
}
