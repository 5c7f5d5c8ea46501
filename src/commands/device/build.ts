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

export default class DeviceBuild extends BaseCommand<BuildResult> {
  static override description =
    "build the vhost-blk device for a QEMU\nFetches the headers of that QEMU's own source package. The result fits this binary only, and is built again after each upgrade."
  static override examples = [
    '<%= config.bin %> <%= command.id %>',
    '<%= config.bin %> <%= command.id %> /usr/bin/qemu-system-x86_64 --out /var/lib/vblk/native',
  ]
  static override args = { qemu: qemuArgument() }
  static override flags = {
    out: Flags.string({
      helpValue: 'DIR',
      description:
        'where to put it; unless given $VBLK_DEVICE_DIR, .cache/native in a checkout, or /var/lib/vblk/native',
    }),
  }
  static override defaultTimeout = 1800

  protected async execute(context: Context<typeof DeviceBuild>): Promise<BuildResult> {
    const { args, flags, signal, timeoutMs, progress, trace } = context
    const { findQemu } = await import('../../host/qemu.ts')
    const { buildDeviceObject, deviceBuildDir } = await import('../../host/device-object.ts')
    const qemu = await findQemu(args.qemu)
    const dir = resolve(flags.out ?? deviceBuildDir())
    const object = await progress.wait(`building the device for ${qemu.path}`, (step) =>
      buildDeviceObject(qemu, dir, { signal, timeoutMs, onLine: trace ?? ((line) => step.detail(line.trim())) }),
    )
    return { qemu: qemu.path, buildId: qemu.buildId, object }
  }

  protected render({ object }: BuildResult): string {
    return `built ${printable(object)}`
  }
}
