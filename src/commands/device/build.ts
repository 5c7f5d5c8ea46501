// SPDX-License-Identifier: GPL-2.0-or-later
import { resolve } from 'node:path'
import { Flags } from '@oclif/core'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { printable } from '../../ui/printable.ts'
import { qemuArgument } from '../../ui/qemu-argument.ts'

interface BuildResult {
  qemu: string
  buildId: string
  object: string
}

/** What would be run. */
interface Plan {
  command: string[]
  dryRun: true
}

export default class DeviceBuild extends BaseCommand<BuildResult | Plan> {
  static override description =
    "build the vhost-blk device for a QEMU\nFetches the headers of that QEMU's own source package. The result fits this binary only, and is built again after each upgrade."
  static override examples = [
    '<%= config.bin %> <%= command.id %>',
    '<%= config.bin %> <%= command.id %> /usr/bin/qemu-system-x86_64 --out /var/lib/vblk/native --dry-run',
  ]
  static override args = { qemu: qemuArgument() }
  static override flags = {
    out: Flags.string({
      helpValue: 'DIR',
      description:
        'where to put it; unless given $VBLK_DEVICE_DIR, .cache/native in a checkout, or /var/lib/vblk/native',
    }),
    'dry-run': Flags.boolean({ description: 'print the command and change nothing', default: false }),
  }
  static override defaultTimeout = 1800

  protected async execute(context: Context<typeof DeviceBuild>): Promise<BuildResult | Plan> {
    const { args, flags, signal, timeoutMs, progress, trace } = context
    const { findQemu } = await import('../../host/qemu.ts')
    const { buildDeviceObject, deviceBuildCommand, deviceBuildDir } = await import('../../host/device-object.ts')
    const qemu = await findQemu(args.qemu)
    const dir = resolve(flags.out ?? deviceBuildDir())
    if (flags['dry-run']) return { command: deviceBuildCommand(qemu, dir), dryRun: true }
    const object = await progress.wait(`building the device for ${qemu.path}`, (step) =>
      buildDeviceObject(qemu, dir, { signal, timeoutMs, onLine: trace ?? ((line) => step.detail(line.trim())) }),
    )
    return { qemu: qemu.path, buildId: qemu.buildId, object }
  }

  protected render(result: BuildResult | Plan): string {
    return printable('command' in result ? result.command.join(' ') : `built ${result.object}`)
  }
}
