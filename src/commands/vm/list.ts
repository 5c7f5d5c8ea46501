// SPDX-License-Identifier: GPL-2.0-or-later

import { BaseCommand } from '../../ui/base-command.ts'
import { table } from '../../ui/table.ts'
import { listRegistered, type RegisteredVm } from '../../vm/registry.ts'

export interface VmListResult {
  vms: RegisteredVm[]
}

export default class VmList extends BaseCommand<VmListResult> {
  static override summary = 'list the registered VMs'

  static override description = 'Tells what is registered, and asks no VM. Whether they run: vblk vm show NAME.'

  static override examples = ['<%= config.bin %> vm list', '<%= config.bin %> vm list --json']

  protected override async execute(): Promise<VmListResult> {
    return { vms: await listRegistered() }
  }

  protected override render({ vms }: VmListResult): string {
    if (vms.length === 0) return 'no registered VMs'
    return table<RegisteredVm>(vms, [
      { header: 'NAME', value: (vm) => vm.name },
      { header: 'ADDRESS', value: (vm) => vm.address },
    ])
  }
}
