// SPDX-License-Identifier: GPL-2.0-or-later
import { Flags } from '@oclif/core'
import { VblkError } from '../../errors.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { qemuArgument } from '../../ui/qemu-argument.ts'

interface ArgsResult {
  qemu: string
  buildId: string
  /** Null with --fallback, for a QEMU that has no device. */
  object: string | null
  /** To be given to QEMU one by one. */
  args: string[]
}

/** What is XML's own in a text; a path can contain anything else. */
const escapeXml = (text: string) => text.replace(/[&<>'"]/g, (char) => `&#${char.codePointAt(0)};`)

export default class DeviceArgs extends BaseCommand<ArgsResult> {
  static override description =
    'print the arguments that load the vhost-blk device into a QEMU\nThey go on the command line of a QEMU that is about to be started; a running one cannot load it.'
  static override examples = [
    '<%= config.bin %> <%= command.id %>',
    '<%= config.bin %> <%= command.id %> --libvirt-xml',
    {
      description: 'start a VM whose disks can be served by the kernel',
      command: 'qemu-system-x86_64 $(<%= config.bin %> <%= command.id %>) -qmp unix:/run/vm1.qmp,server=on,wait=off …',
    },
  ]
  static override args = { qemu: qemuArgument() }

  static override flags = {
    'libvirt-xml': Flags.boolean({
      description: "print what goes into a domain's XML, with its name space",
      default: false,
    }),
    fallback: Flags.boolean({
      description: 'without a device for this QEMU warn and print no arguments: its disks stay plain virtio-blk',
      default: false,
    }),
  }

  #asXml = false

  protected async execute({ args, flags, progress }: Context<typeof DeviceArgs>): Promise<ArgsResult> {
    this.#asXml = flags['libvirt-xml']
    const { findQemu } = await import('../../host/qemu.ts')
    const { deviceArguments, requireDeviceObject } = await import('../../host/device-object.ts')
    const qemu = await findQemu(args.qemu)
    try {
      const object = requireDeviceObject(qemu)
      return { qemu: qemu.path, buildId: qemu.buildId, object, args: deviceArguments(object) }
    } catch (error) {
      if (!(flags.fallback && error instanceof VblkError)) throw error
      progress.warn(`${error.message}; the VM will start without it`)
      return { qemu: qemu.path, buildId: qemu.buildId, object: null, args: [] }
    }
  }

  /** For a shell's $(…), which splits at white space and knows no quotes. */
  protected render({ args }: ArgsResult): string {
    if (this.#asXml) return formatXml(args)
    return args.join(' ')
  }
}

/** The element of libvirt's QEMU name space (https://libvirt.org/kbase/qemu-passthrough-security.html), on any domain's XML. */
function formatXml(args: string[]): string {
  const lines = args.map((arg) => `  <qemu:arg value='${escapeXml(arg)}'/>`)
  const open = "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
  return [open, ...lines, '</qemu:commandline>'].join('\n')
}
