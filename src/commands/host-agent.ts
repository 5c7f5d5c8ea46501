// SPDX-License-Identifier: GPL-2.0-or-later

import { serveAgent } from '../migration/hosts/agent.ts'
import { FileStore } from '../migration/journal/store.ts'
import { BaseCommand, type Context } from '../ui/base-command.ts'

export default class HostAgent extends BaseCommand<null> {
  static override summary = 'answer a vblk on another host about this one, on stdin and stdout'
  static override description = 'Started by "vblk migrate VM ssh://HOST/SOCKET" through ssh; of no use by hand.'
  static override examples = ['ssh HOST <%= config.bin %> host-agent']
  static override hidden = true

  protected override async execute({ signal }: Context<typeof HostAgent>): Promise<null> {
    await serveAgent(process.stdin, process.stdout, new FileStore(), signal)
    return null
  }

  protected override render(): string {
    return ''
  }
}
