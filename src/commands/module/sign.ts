// SPDX-License-Identifier: GPL-2.0-or-later
import { Flags } from '@oclif/core'
import type { SignResult } from '../../host/module-sign.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { printable } from '../../ui/printable.ts'

export default class ModuleSign extends BaseCommand<SignResult> {
  static override description =
    'sign the kernel module for a host with Secure Boot\nThe key is made at the first call; the firmware must learn it once, with mokutil. What DKMS builds is signed by DKMS.'
  static override examples = [
    '<%= config.bin %> <%= command.id %>',
    '<%= config.bin %> <%= command.id %> --build-dir /var/tmp/vhost_blk --key-dir /root/keys --dry-run',
  ]
  static override flags = {
    'build-dir': Flags.string({ helpValue: 'DIR', description: 'sign the module built there, not an installed one' }),
    'key-dir': Flags.string({
      helpValue: 'DIR',
      description: 'where key.pem and certificate.der are, or shall be made',
      default: '/var/lib/vhost-blk',
    }),
    'dry-run': Flags.boolean({ description: 'print the command and change nothing', default: false }),
  }

  protected async execute(context: Context<typeof ModuleSign>): Promise<SignResult> {
    const { flags, signal, timeoutMs, progress, trace } = context
    const { signModule } = await import('../../host/module-sign.ts')
    // How the firmware learns a new key.
    const tell = (line: string) => progress.info(line.replace(/^sign: /, ''))
    return await signModule(flags['build-dir'], {
      signal,
      timeoutMs,
      keyDir: flags['key-dir'],
      dryRun: flags['dry-run'],
      onLine: trace ?? tell,
    })
  }

  protected render({ changed, path, signer, command, dryRun }: SignResult): string {
    if (dryRun && command.length > 0) return printable(command.join(' '))
    return `${printable(path)} is signed${changed ? '' : ' already'} by ${printable(signer ?? '')}`
  }
}
