// SPDX-License-Identifier: GPL-2.0-or-later
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { qemuArgument } from '../../ui/qemu-argument.ts'

interface ArgsResult {
  qemu: string
  buildId: string
  object: string
  /** To be given to QEMU one by one. */
  args: string[]
}

export default class DeviceArgs extends BaseCommand<ArgsResult> {
  static override description =
    'print the arguments that load the vhost-blk device into a QEMU\nThey go on the command line of a QEMU that is about to be started; a running one cannot load it.'
  static override examples = [
    '<%= config.bin %> <%= command.id %>',
    {
      description: 'start a VM whose disks can be served by the kernel',
      command: 'qemu-system-x86_64 $(<%= config.bin %> <%= command.id %>) -qmp unix:/run/vm1.qmp,server=on,wait=off …',
    },
  ]
  static override args = { qemu: qemuArgument() }

  protected async execute({ args }: Context<typeof DeviceArgs>): Promise<ArgsResult> {
    const { findQemu } = await import('../../host/qemu.ts')
    const { deviceArguments, requireDeviceObject } = await import('../../host/device-object.ts')
    const qemu = await findQemu(args.qemu)
    const object = requireDeviceObject(qemu)
    return { qemu: qemu.path, buildId: qemu.buildId, object, args: deviceArguments(object) }
  }

  /** For a shell's $(…), which splits at white space and knows no quotes. */
  protected render({ args }: ArgsResult): string {
    return args.join(' ')
  }
}
