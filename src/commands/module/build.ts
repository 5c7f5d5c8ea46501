// SPDX-License-Identifier: GPL-2.0-or-later
import { resolve } from 'node:path'
import { Flags } from '@oclif/core'
import type { ModuleFile } from '../../host/module-file.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { printable } from '../../ui/printable.ts'

export default class ModuleBuild extends BaseCommand<ModuleFile> {
  static override description =
    'build the kernel module for the running kernel\nNeeds the headers of that kernel, gcc and make. Nothing is installed: `vblk module load` loads what was built.'
  static override examples = [
    '<%= config.bin %> <%= command.id %>',
    '<%= config.bin %> <%= command.id %> --build-dir /var/tmp/vhost_blk',
  ]
  static override flags = {
    'build-dir': Flags.string({
      helpValue: 'DIR',
      description: 'where to build; unless given $VBLK_MODULE_DIR, .cache/kmod in a checkout, or /var/lib/vblk/kmod',
    }),
  }
  static override defaultTimeout = 1800

  protected async execute({
    flags,
    signal,
    timeoutMs,
    progress,
    trace,
  }: Context<typeof ModuleBuild>): Promise<ModuleFile> {
    const { buildModule } = await import('../../host/module-build.ts')
    const { moduleBuildDir } = await import('../../host/module-file.ts')
    const dir = resolve(flags['build-dir'] ?? moduleBuildDir())
    return progress.wait('building the kernel module', (step) =>
      buildModule(dir, { signal, timeoutMs, onLine: trace ?? ((line) => step.detail(line.trim())) }),
    )
  }

  protected render({ path, kernel, version }: ModuleFile): string {
    return `built ${printable(path)}${version ? ` version ${printable(version)}` : ''} for kernel ${kernel}`
  }
}
