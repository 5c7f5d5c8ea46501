// SPDX-License-Identifier: GPL-2.0-or-later
import { addAbortSignal } from 'node:stream'
import { text } from 'node:stream/consumers'
import { Flags } from '@oclif/core'
import { ExitCode, VblkError } from '../../errors.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { qemuArgument } from '../../ui/qemu-argument.ts'

interface AdaptResult {
  /** The QEMU that the domain will run in; null if the domain wants no vhost-blk. */
  qemu: string | null
  /** The device that it will load; null if none. */
  object: string | null
  /** Disks that become virtio-blk-pci, by id. */
  disks: string[]
  xml: string
}

export default class DeviceAdapt extends BaseCommand<AdaptResult> {
  static override description = `make a libvirt domain's XML fit this host's vhost-blk device
Reads the XML on stdin and prints it with the device that fits this host's QEMU in the place of the one that it names. A domain
without vhost-blk stays as it is. For libvirt's hook of an incoming migration; asks libvirt nothing.`
  static override examples = [
    'virsh dumpxml vm1 | <%= config.bin %> <%= command.id %>',
    {
      description: 'in /etc/libvirt/hooks/qemu, for the operations migrate and restore',
      command: '<%= config.bin %> <%= command.id %> --fallback',
    },
  ]
  static override args = { qemu: qemuArgument() }

  static override flags = {
    fallback: Flags.boolean({
      description: 'without a device for this QEMU warn and make its disks plain virtio-blk, with write-cache=off',
      default: false,
    }),
  }

  protected async execute(context: Context<typeof DeviceAdapt>): Promise<AdaptResult> {
    const { args, flags, progress } = context
    const { parseDomainXml } = await import('../../host/domain-xml.ts')
    const xml = await readInput(context)
    const domain = parseDomainXml(xml)
    if (!domain.wantsDevice) return { qemu: null, object: null, disks: [], xml }
    const { findQemu } = await import('../../host/qemu.ts')
    const { requireDeviceObject } = await import('../../host/device-object.ts')
    const qemu = await findQemu(args.qemu ?? domain.emulator)
    try {
      const object = requireDeviceObject(qemu)
      return { qemu: qemu.path, object, ...domain.adapt(object) }
    } catch (error) {
      if (!(flags.fallback && error instanceof VblkError)) throw error
      const adapted = domain.adapt(undefined)
      const become = adapted.disks.length > 0 ? ` of ${adapted.disks.join(', ')}` : ''
      progress.warn(`${error.message}; QEMU will serve the disks${become}, with the write cache off`)
      return { qemu: qemu.path, object: null, ...adapted }
    }
  }

  protected render({ xml }: AdaptResult): string {
    return xml.replace(/\n$/, '')
  }
}

async function readInput({ signal, timeoutMs }: Context): Promise<string> {
  const hint = 'virsh dumpxml DOMAIN | vblk device adapt'
  if (process.stdin.isTTY) {
    throw new VblkError('NO_INPUT', ExitCode.Usage, "the domain's XML is read from stdin, which is a terminal", {
      hint,
    })
  }
  const late = AbortSignal.timeout(timeoutMs)
  try {
    return await text(addAbortSignal(AbortSignal.any([signal, late]), process.stdin))
  } catch (error) {
    signal.throwIfAborted()
    if (!late.aborted) throw error
    const words = `stdin did not end within ${timeoutMs / 1000} s`
    throw new VblkError('INPUT_TIMEOUT', ExitCode.TimedOut, words, { hint, cause: error })
  }
}
