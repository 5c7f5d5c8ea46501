// SPDX-License-Identifier: GPL-2.0-or-later
import type { UnloadResult } from '../../host/module-unload.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'

export default class ModuleUnload extends BaseCommand<UnloadResult> {
  static override description =
    'unload the kernel module\nExits with 9 and names the processes while disks use it. A module that is not loaded is left as it is.'
  static override examples = ['<%= config.bin %> <%= command.id %>']

  protected async execute({ signal, timeoutMs }: Context<typeof ModuleUnload>): Promise<UnloadResult> {
    const { unloadModule } = await import('../../host/module-unload.ts')
    return unloadModule({ signal, timeoutMs })
  }

  protected render({ changed }: UnloadResult): string {
    return changed ? 'unloaded' : 'not loaded'
  }
}
