// SPDX-License-Identifier: GPL-2.0-or-later

import { Args, Flags } from '@oclif/core'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { checkName, findRegistered, unregister } from '../../vm/registry.ts'

export interface VmRemoveResult {
  name: string
  /** Whether a VM had the name. */
  found: boolean
  changed: boolean
  dryRun: boolean
}

export default class VmRemove extends BaseCommand<VmRemoveResult> {
  static override summary = 'forget the name of a VM'

  static override description = 'The VM itself is left alone.'

  static override examples = ['<%= config.bin %> vm remove web1', '<%= config.bin %> vm remove web1 --dry-run']

  static override args = { name: Args.string({ description: 'a registered name', required: true }) }

  static override flags = {
    'dry-run': Flags.boolean({ description: 'change nothing', default: false }),
  }

  protected override async execute(context: Context<typeof VmRemove>): Promise<VmRemoveResult> {
    const { name } = context.args
    const dryRun = context.flags['dry-run']
    checkName(name)
    if (dryRun) return { name, found: (await findRegistered(name)) !== undefined, changed: false, dryRun }
    const found = await unregister(name)
    return { name, found, changed: found, dryRun }
  }

  protected override render({ name, found, dryRun }: VmRemoveResult): string {
    if (!found) return `${name} was not registered`
    return dryRun ? `${name} would be forgotten` : `${name} is forgotten`
  }
}
