// SPDX-License-Identifier: GPL-2.0-or-later

import { Args } from '@oclif/core'
import { type DiskInfo, listDisks } from '../disk/info.ts'
import { listVms, type VmDisks } from '../disk/list-vms.ts'
import { type ExitCode, VblkError } from '../errors.ts'
import { BaseCommand, type Context } from '../ui/base-command.ts'
import { formatDatapath, formatSize, formatWriteCache, vmDescription } from '../ui/disk-text.ts'
import { type Column, table } from '../ui/table.ts'
import { listRegistered } from '../vm/registry.ts'
import { withVm } from '../vm/vm.ts'

/** Of one VM its disks, of several each VM with its own. */
export type ListResult = { disks: DiskInfo[] } | { vms: VmDisks[] }

const columns: Column<DiskInfo>[] = [
  { header: 'ID', value: (disk) => disk.id ?? '-' },
  { header: 'SIZE', value: (disk) => formatSize(disk.sizeBytes), align: 'right' },
  { header: 'MODE', value: (disk) => (disk.readOnly ? 'ro' : 'rw') },
  { header: 'CACHE', value: (disk) => disk.cache ?? '-' },
  { header: 'WRITE CACHE', value: formatWriteCache },
  { header: 'BUS', value: (disk) => `${disk.bus ?? '-'} ${disk.addr ?? ''}` },
  { header: 'REQUESTS', value: (disk) => disk.kernel?.requests ?? '-', align: 'right' },
  { header: 'FILE', value: (disk) => disk.file ?? '-' },
  { header: 'DATAPATH', value: formatDatapath },
]

export default class List extends BaseCommand<ListResult> {
  static override summary = 'list the virtio disks of VMs and who serves them'

  static override description =
    `Asks the VMs at the same time; without any it asks all that are registered. When one of several VMs can't be asked, the
others are listed all the same, and the exit code is that of the first failure.
The write cache is shown as the one that a reset restores and the one that the guest has chosen. Requests are those that
the host kernel has completed.`

  static override examples = [
    '<%= config.bin %> list /run/vm1.qmp',
    '<%= config.bin %> list /run/vm1.qmp --json',
    '<%= config.bin %> list web1 db1',
    '<%= config.bin %> list',
  ]

  static override args = { vm: Args.string({ description: `${vmDescription}; may be given several times` }) }

  static override strict = false

  static override defaultTimeout = 30

  protected override async execute(context: Context<typeof List>): Promise<ListResult> {
    const { words, signal, timeoutMs, trace } = context
    const open = { timeoutMs, signal, trace }
    const [only, ...more] = words
    if (only !== undefined && more.length === 0) {
      return await withVm(only, open, async (vm) => ({ disks: await listDisks(vm, { signal }) }))
    }
    const names = words.length > 0 ? words : (await listRegistered()).map(({ name }) => name)
    const vms = await listVms(names, open)
    const failed = vms.filter(({ error }) => error !== null)
    const [first] = failed
    if (first?.error == null) return { vms }
    throw new VblkError(
      'SOME_VMS_FAILED',
      first.error.exitCode as ExitCode,
      `${failed.length} of ${vms.length} VMs can't be listed: ${failed.map(({ vm, error }) => `${vm} (${error?.code})`).join(', ')}`,
      { details: { vms } },
    )
  }

  protected override render(result: ListResult): string {
    if ('vms' in result) return formatVms(result.vms)
    return result.disks.length === 0 ? 'no virtio disks' : table(result.disks, columns)
  }

  protected override renderFailure(error: VblkError): string {
    return error.code === 'SOME_VMS_FAILED' ? formatVms(error.details?.vms as VmDisks[]) : ''
  }
}

interface Row {
  vm: string
  disk: DiskInfo | null
  text: string
}

function formatVms(vms: VmDisks[]): string {
  if (vms.length === 0) return 'no registered VMs'
  const rows = vms.flatMap(({ vm, disks, error }): Row[] => {
    if (error !== null) return [{ vm, disk: null, text: error.message }]
    if (disks.length === 0) return [{ vm, disk: null, text: 'no virtio disks' }]
    return disks.map((disk) => ({ vm, disk, text: '' }))
  })
  return table<Row>(rows, [
    { header: 'VM', value: ({ vm }) => vm },
    ...columns.map(({ header, value, ...rest }): Column<Row> => {
      const instead = (row: Row) => (header === 'DATAPATH' ? row.text : '-')
      return { header, value: (row) => (row.disk === null ? instead(row) : value(row.disk)), ...rest }
    }),
  ])
}
