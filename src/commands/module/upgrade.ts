// SPDX-License-Identifier: GPL-2.0-or-later
import { Args, Flags } from '@oclif/core'
import type { UpgradeResult, UpgradeStep } from '../../disk/upgrade-module.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { vmDescription } from '../../ui/disk-text.ts'
import { printable } from '../../ui/printable.ts'

export default class ModuleUpgrade extends BaseCommand<UpgradeResult> {
  static override summary = 'exchange the loaded kernel module under running VMs'
  static override description =
    `Every disk that the kernel serves steps over to QEMU for that time; the guests notice nothing. If the new module
does not load or does not serve, the old one and the disks come back (exit code 7). All VMs that use the module must be
reachable: those registered with "vblk vm add" are found, others are named.`
  static override examples = [
    '<%= config.bin %> <%= command.id %>',
    '<%= config.bin %> <%= command.id %> /run/vm1.qmp /run/vm2.qmp --dry-run',
    '<%= config.bin %> <%= command.id %> --build-dir /var/tmp/vhost_blk',
  ]
  static override strict = false
  static override args = { vm: Args.string({ description: `VMs beside the registered ones: ${vmDescription}` }) }
  static override flags = {
    'build-dir': Flags.string({ helpValue: 'DIR', description: 'take the module built there, not the installed one' }),
    'dry-run': Flags.boolean({ description: 'print what would be done and change nothing', default: false }),
  }

  protected async execute(context: Context<typeof ModuleUpgrade>): Promise<UpgradeResult> {
    const { flags, words, signal, timeoutMs, progress, trace } = context
    const { upgradeModule } = await import('../../disk/upgrade-module.ts')
    const options = { signal, timeoutMs, report: progress, trace, dryRun: flags['dry-run'] }
    return await upgradeModule(words, flags['build-dir'], options)
  }

  protected render({ changed, path, disks, steps, dryRun }: UpgradeResult): string {
    if (dryRun && steps.length > 0) return steps.map(formatStep).join('\n')
    if (!changed) return `${printable(path)} is loaded already`
    const served = disks.map(({ vm, id, datapath }) => `${printable(`${vm} ${id ?? '-'}`)}: ${datapath}`)
    return [`loaded ${printable(path)}`, ...served].join('\n')
  }
}

function formatStep(step: UpgradeStep): string {
  if ('run' in step) return printable(step.run)
  const { vm, ...command } = step
  return printable(`${vm}: ${JSON.stringify(command)}`)
}
