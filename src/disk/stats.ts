// SPDX-License-Identifier: GPL-2.0-or-later

import { type QueueFigures, readKernelQueues } from '../host/kernel-queues.ts'
import type { BlockStats, WaitOptions } from '../qmp/index.ts'
import { findProcess } from '../vm/qemu-process.ts'
import type { Vm } from '../vm/vm.ts'
import { type Datapath, type DiskInfo, listDisks, requireDisk } from './info.ts'

/** What a disk has done, by whichever datapath, since its device was made. */
export interface DiskTotals {
  reads: number
  writes: number
  flushes: number
  discards: number
  readBytes: number
  writeBytes: number
  readTimeNs: number
  writeTimeNs: number
  flushTimeNs: number
  /** Requests that failed; those of the kernel are counted among the others as well. */
  errors: number
}

export interface DiskStats {
  id: string | null
  path: string
  datapath: Datapath
  reason: string
  totals: DiskTotals
  /** The kernel's queues since it began to serve the disk; null when they can't be read, or there are none. */
  queues: QueueFigures[] | null
}

export interface StatsSample {
  /** Milliseconds since 1970. */
  atMs: number
  disks: DiskStats[]
  /** Why the queues of a disk can't be read. */
  problems: string[]
}

/** Reads the figures of all disks of a VM, or of one. Throws VblkError (exit code 3) when it has no such disk. */
export async function readStats(vm: Vm, id: string | undefined, options: WaitOptions = {}): Promise<StatsSample> {
  const disks = id === undefined ? await listDisks(vm, options) : [await requireDisk(vm, id, options)]
  const blocks = await vm.qmp.execute('query-blockstats', {}, options)
  const problems: string[] = []
  const stats = disks.map((disk): DiskStats => {
    const { path, datapath, reason } = disk
    const block = blocks.find(({ qdev }) => qdev === path || qdev?.startsWith(`${path}/`))
    return {
      id: disk.id,
      path,
      datapath,
      reason,
      totals: totals(block, disk),
      queues: readQueues(vm, disk, problems),
    }
  })
  return { atMs: Date.now(), disks: stats, problems }
}

function totals(block: BlockStats | undefined, disk: DiskInfo): DiskTotals {
  const count = (name: keyof BlockStats['stats']) => Number(block?.stats[name] ?? 0)
  const failed = (['rd', 'wr', 'flush', 'unmap'] as const).map((op) => count(`failed_${op}_operations`))
  return {
    reads: count('rd_operations'),
    writes: count('wr_operations'),
    flushes: count('flush_operations'),
    discards: count('unmap_operations'),
    readBytes: count('rd_bytes'),
    writeBytes: count('wr_bytes'),
    readTimeNs: count('rd_total_time_ns'),
    writeTimeNs: count('wr_total_time_ns'),
    flushTimeNs: count('flush_total_time_ns'),
    errors: failed.reduce((sum, number) => sum + number, disk.kernel?.errors ?? 0),
  }
}

function readQueues(vm: Vm, { id, path, kernel, queues }: DiskInfo, problems: string[]): QueueFigures[] | null {
  if (kernel === null || kernel.fds.length === 0 || queues === null) return null
  const process = findProcess(vm)
  if ('unknown' in process) {
    problems.push(`the queues of ${id ?? path} can't be read: ${process.unknown}`)
    return null
  }
  try {
    const each = kernel.fds.flatMap((fd) => readKernelQueues(process.pid, fd, kernel.fds.length === 1 ? queues : 1))
    return each.map((figures, queue) => ({ ...figures, queue }))
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === 'EPERM' ? 'that takes root' : (error as Error).message
    problems.push(`the queues of ${id ?? path} can't be read: ${why}`)
    return null
  }
}
