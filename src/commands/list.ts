// SPDX-License-Identifier: GPL-2.0-or-later

import { type DiskInfo, listDisks } from '../disk/info.ts'
import { BaseCommand, type Context } from '../ui/base-command.ts'
import { formatDatapath, formatSize, formatWriteCache, vmArgument } from '../ui/disk-text.ts'
import { table } from '../ui/table.ts'
import { withVm } from '../vm/vm.ts'

export interface ListResult {
  disks: DiskInfo[]
}

export default class List extends BaseCommand<ListResult> {
  static override summary = "list a VM's virtio disks and who serves them"

  static override description =
    `The write cache is shown as the one that a reset restores and the one that the guest has chosen.
Requests are those that the host kernel has completed.`

  static override examples = ['<%= config.bin %> list /run/vm1.qmp', '<%= config.bin %> list /run/vm1.qmp --json']

  static override args = { vm: vmArgument() }

  static override defaultTimeout = 30

  protected override async execute(context: Context<typeof List>): Promise<ListResult> {
    const { args, signal, timeoutMs, trace } = context
    return await withVm(args.vm, { timeoutMs, signal, trace }, async (vm) => ({
      disks: await listDisks(vm, { signal }),
    }))
  }

  protected override render({ disks }: ListResult): string {
    if (disks.length === 0) return 'no virtio disks'
    return table<DiskInfo>(disks, [
      { header: 'ID', value: (disk) => disk.id ?? '-' },
      { header: 'SIZE', value: (disk) => formatSize(disk.sizeBytes), align: 'right' },
      { header: 'MODE', value: (disk) => (disk.readOnly ? 'ro' : 'rw') },
      { header: 'CACHE', value: (disk) => disk.cache ?? '-' },
      { header: 'WRITE CACHE', value: formatWriteCache },
      { header: 'BUS', value: (disk) => `${disk.bus ?? '-'} ${disk.addr ?? ''}` },
      { header: 'REQUESTS', value: (disk) => disk.kernel?.requests ?? '-', align: 'right' },
      { header: 'FILE', value: (disk) => disk.file ?? '-' },
      { header: 'DATAPATH', value: formatDatapath },
    ])
  }
}
