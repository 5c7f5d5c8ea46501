// SPDX-License-Identifier: GPL-2.0-or-later

import { type DiskInfo, requireDisk } from '../disk/info.ts'
import { BaseCommand, type Context } from '../ui/base-command.ts'
import { diskArgument, formatDatapath, formatSize, formatWriteCache, vmArgument } from '../ui/disk-text.ts'
import { pairs } from '../ui/table.ts'
import { withVm } from '../vm/vm.ts'

export interface ShowResult {
  disk: DiskInfo
}

export default class Show extends BaseCommand<ShowResult> {
  static override summary = 'show all about one disk of a VM'

  static override description =
    `Tells what the disk is made of, who serves it and why, and what the kernel has done for it.`

  static override examples = [
    '<%= config.bin %> show /run/vm1.qmp data',
    '<%= config.bin %> show /run/vm1.qmp data --json',
  ]

  static override args = { vm: vmArgument(), id: diskArgument() }

  static override defaultTimeout = 30

  protected override async execute(context: Context<typeof Show>): Promise<ShowResult> {
    const { args, signal, timeoutMs, trace } = context
    return await withVm(args.vm, { timeoutMs, signal, trace }, async (vm) => ({
      disk: await requireDisk(vm, args.id, { signal }),
    }))
  }

  protected override render({ disk }: ShowResult): string {
    const { kernel } = disk
    return pairs([
      ['id', disk.id ?? '-'],
      ['device', `${disk.type} at ${disk.path}`],
      ['bus', `${disk.bus ?? '-'} ${disk.addr ?? ''}`],
      ['file', disk.file ?? '-'],
      ['block node', disk.node ?? '-'],
      ['size', disk.sizeBytes === null ? '-' : `${formatSize(disk.sizeBytes)} (${disk.sizeBytes} bytes)`],
      ['mode', disk.readOnly ? 'read-only' : 'read-write'],
      ['cache', disk.cache ?? '-'],
      ['write cache', `${formatWriteCache(disk)}, set to ${disk.writeCacheSetting}`],
      ['serial', disk.serial === '' ? '-' : disk.serial],
      ['block size', `${disk.blockSize.logical ?? '-'} bytes, physically ${disk.blockSize.physical ?? '-'}`],
      ['discard', disk.discard],
      ['limits', formatLimits(disk.limits)],
      ['queues', disk.queues ?? '-'],
      ['iothread', disk.iothread ?? '-'],
      ['datapath', `${formatDatapath(disk)}, set to ${disk.datapathSetting ?? '-'}`],
      ['kernel queues', kernel?.runningQueues ?? '-'],
      ['kernel requests', kernel === null ? '-' : `${kernel.requests}, ${kernel.errors} failed`],
    ])
  }
}

function formatLimits({ bytesPerSecond, requestsPerSecond }: DiskInfo['limits']): string {
  const limits = [
    ...(bytesPerSecond === null ? [] : [`${formatSize(bytesPerSecond)}/s`]),
    ...(requestsPerSecond === null ? [] : [`${requestsPerSecond} requests/s`]),
  ]
  return limits.join(', ') || 'none'
}
