// SPDX-License-Identifier: GPL-2.0-or-later
import { resolve } from 'node:path'
import { Flags } from '@oclif/core'
import type { ModuleFile } from '../../host/module-file.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { printable } from '../../ui/printable.ts'

/** What would be run. */
interface Plan {
  command: string[]
  dryRun: true
}

export default class ModuleBuild extends BaseCommand<ModuleFile | Plan> {
  static override description =
    'build the kernel module for the running kernel\nNeeds the headers of that kernel, gcc and make. Nothing is installed: `vblk module load` loads what was built.'
  static override examples = [
    '<%= config.bin %> <%= command.id %>',
    '<%= config.bin %> <%= command.id %> --build-dir /var/tmp/vhost_blk --dry-run',
  ]
  static override flags = {
    'build-dir': Flags.string({
      helpValue: 'DIR',
      description: 'where to build; unless given $VBLK_MODULE_DIR, .cache/kmod in a checkout, or /var/lib/vblk/kmod',
    }),
    'dry-run': Flags.boolean({ description: 'print the command and change nothing', default: false }),
  }
  static override defaultTimeout = 1800

  protected async execute({
    flags,
    signal,
    timeoutMs,
    progress,
    trace,
  }: Context<typeof ModuleBuild>): Promise<ModuleFile | Plan> {
    const { buildModule, moduleBuildCommand } = await import('../../host/module-build.ts')
    const { moduleBuildDir } = await import('../../host/module-file.ts')
    const dir = resolve(flags['build-dir'] ?? moduleBuildDir())
    if (flags['dry-run']) return { command: moduleBuildCommand(dir), dryRun: true }
    return progress.wait('building the kernel module', (step) =>
      buildModule(dir, { signal, timeoutMs, onLine: trace ?? ((line) => step.detail(line.trim())) }),
    )
  }

  protected render(result: ModuleFile | Plan): string {
    if ('command' in result) return printable(result.command.join(' '))
    const { path, kernel, version } = result
    return `built ${printable(path)}${version ? ` version ${printable(version)}` : ''} for kernel ${kernel}`
  }
}
