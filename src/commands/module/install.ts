// SPDX-License-Identifier: GPL-2.0-or-later
import { Flags } from '@oclif/core'
import type { InstallResult } from '../../host/module-install.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { printable } from '../../ui/printable.ts'

export default class ModuleInstall extends BaseCommand<InstallResult> {
  static override description =
    'install the built kernel module for the running kernel\nFrom then on modprobe finds it, after a reboot as well. A loaded module stays loaded: `vblk module upgrade` exchanges it.'
  static override examples = [
    '<%= config.bin %> <%= command.id %>',
    '<%= config.bin %> <%= command.id %> --build-dir /var/tmp/vhost_blk --dry-run',
  ]
  static override flags = {
    'build-dir': Flags.string({ helpValue: 'DIR', description: 'install the module built there' }),
    'dry-run': Flags.boolean({ description: 'print what would be done and change nothing', default: false }),
  }

  protected async execute({ flags, signal, timeoutMs }: Context<typeof ModuleInstall>): Promise<InstallResult> {
    const { installModule } = await import('../../host/module-install.ts')
    const { moduleBuildDir } = await import('../../host/module-file.ts')
    return installModule(flags['build-dir'] ?? moduleBuildDir(), { signal, timeoutMs, dryRun: flags['dry-run'] })
  }

  protected render({ changed, path, steps, dryRun }: InstallResult): string {
    if (dryRun && steps.length > 0) return steps.map(printable).join('\n')
    return `${printable(path)} is installed${changed ? '' : ' already'}`
  }
}
