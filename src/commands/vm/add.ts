// SPDX-License-Identifier: GPL-2.0-or-later

import { Args, Flags } from '@oclif/core'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { printable } from '../../ui/printable.ts'
import { type RegisteredVm, register } from '../../vm/registry.ts'
import { withVm } from '../../vm/vm.ts'

export interface VmAddResult extends RegisteredVm {
  /** False when it was registered so already. */
  changed: boolean
  dryRun: boolean
}

export default class VmAdd extends BaseCommand<VmAddResult> {
  static override summary = 'register a VM under a name'

  static override description =
    `From then on every command takes the name instead of the address. Names are kept in private files: in /etc/vblk for
root, in ~/.config/vblk for others, or in $VBLK_CONFIG_DIR.`

  static override examples = [
    '<%= config.bin %> vm add web1 /run/web1.qmp',
    '<%= config.bin %> vm add db1 ssh://host2.example/run/db1.qmp',
    "<%= config.bin %> vm add db2 'tls:host3.example:4444?ca=/etc/vblk/ca.pem'",
    '<%= config.bin %> vm add app1 libvirt:app1 --check',
  ]

  static override args = {
    name: Args.string({ description: 'the name to give it', required: true }),
    address: Args.string({
      description:
        'path of its QMP socket, tcp:HOST:PORT, tls:HOST:PORT?ca=FILE&cert=FILE&key=FILE, ssh://[USER@]HOST[:PORT]/PATH, libvirt:DOMAIN',
      required: true,
    }),
  }

  static override flags = {
    replace: Flags.boolean({ description: 'let the name stand for another VM from now on', default: false }),
    check: Flags.boolean({ description: 'register it only if its QEMU answers', default: false }),
    'dry-run': Flags.boolean({ description: 'check everything and write nothing', default: false }),
  }

  protected override async execute(context: Context<typeof VmAdd>): Promise<VmAddResult> {
    const { args, flags, signal, timeoutMs, trace } = context
    if (flags.check) await withVm(args.address, { timeoutMs, signal, trace }, async () => {})
    const dryRun = flags['dry-run']
    const { vm, changed } = await register(args.name, args.address, { replace: flags.replace, dryRun })
    return { ...vm, changed, dryRun }
  }

  protected override render({ name, address, changed, dryRun }: VmAddResult): string {
    const what = changed || dryRun ? (dryRun ? 'would stand' : 'stands') : 'stands already'
    return printable(`${name} ${what} for ${address}`)
  }
}
