// SPDX-License-Identifier: GPL-2.0-or-later
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { qemuArgument } from '../../ui/qemu-argument.ts'
import { pairs } from '../../ui/table.ts'

interface StatusResult {
  qemu: string
  /** null if the program does not tell. */
  version: string | null
  buildId: string
  /** The device object for this very binary; null if none was built. */
  object: string | null
  /** The folders that were searched. */
  searched: string[]
}

export default class DeviceStatus extends BaseCommand<StatusResult> {
  static override description = 'show which vhost-blk device fits a QEMU'
  static override examples = [
    '<%= config.bin %> <%= command.id %>',
    '<%= config.bin %> <%= command.id %> /usr/bin/qemu-system-x86_64 --json',
  ]
  static override args = { qemu: qemuArgument() }
  static override defaultTimeout = 10

  protected async execute({ args, signal, timeoutMs, progress }: Context<typeof DeviceStatus>): Promise<StatusResult> {
    const { findQemu, qemuVersion } = await import('../../host/qemu.ts')
    const { deviceDirs, findDeviceObject } = await import('../../host/device-object.ts')
    const qemu = await findQemu(args.qemu)
    const version = await qemuVersion(qemu.path, { signal, timeoutMs }).catch((error: Error) => {
      signal.throwIfAborted()
      progress.warn(error.message)
      return null
    })
    const object = findDeviceObject(qemu) ?? null
    return { qemu: qemu.path, version, buildId: qemu.buildId, object, searched: deviceDirs() }
  }

  protected render({ qemu, version, buildId, object }: StatusResult): string {
    return pairs([
      ['qemu', qemu],
      ['version', version ?? 'unknown'],
      ['build id', buildId],
      ['device', object ?? `none; build it: vblk device build ${qemu}`],
    ])
  }
}
