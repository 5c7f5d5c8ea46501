// SPDX-License-Identifier: GPL-2.0-or-later

import type { DiskWork, Work } from '../disk/rates.ts'
import { formatSize } from './disk-text.ts'
import { type Column, table } from './table.ts'

interface Row extends Work {
  disk: string
  queue: string
  datapath: string
}

/** The work of disks and of their queues as a table: per second if it was done in some seconds, else the sums. */
export function formatWork(disks: DiskWork[], seconds?: number): string {
  if (disks.length === 0) return 'no virtio disks'
  const rows = disks.flatMap(({ id, path, datapath, all, queues }): Row[] => {
    const disk = id ?? path
    // One queue tells nothing that the disk doesn't.
    const each = queues === null || queues.length < 2 ? [] : queues
    const rowsOfQueues = each.map((work) => ({ ...work, disk, datapath: 'kernel', queue: String(work.queue) }))
    return [{ ...all, disk, datapath, queue: 'all' }, ...rowsOfQueues]
  })
  const suffix = seconds === undefined ? '' : '/S'
  const count = (number: number) => formatCount(seconds === undefined ? number : number / seconds)
  const bytes = (number: number) => formatSize(Math.round(seconds === undefined ? number : number / seconds))
  const right = (header: string, value: (row: Row) => string): Column<Row> => ({ header, value, align: 'right' })
  return table<Row>(rows, [
    { header: 'DISK', value: (row) => row.disk },
    { header: 'QUEUE', value: (row) => row.queue },
    { header: 'DATAPATH', value: (row) => row.datapath },
    right(`READS${suffix}`, (row) => count(row.reads)),
    right(`WRITES${suffix}`, (row) => count(row.writes)),
    right(`FLUSHES${suffix}`, (row) => count(row.flushes)),
    right(`READ${suffix}`, (row) => bytes(row.readBytes)),
    right(`WRITTEN${suffix}`, (row) => bytes(row.writeBytes)),
    right('READ AVG', (row) => formatTime(row.read.average)),
    right('P50', (row) => formatTime(row.read.p50)),
    right('P99', (row) => formatTime(row.read.p99)),
    right('WRITE AVG', (row) => formatTime(row.write.average)),
    right('P50', (row) => formatTime(row.write.p50)),
    right('P99', (row) => formatTime(row.write.p99)),
    right('ERRORS', (row) => String(row.errors)),
  ])
}

function formatCount(number: number): string {
  return number === 0 || number >= 100 || Number.isInteger(number) ? String(Math.round(number)) : number.toFixed(1)
}

/** Nanoseconds in the unit that leaves one to three digits before the point. */
export function formatTime(ns: number | null): string {
  if (ns === null) return '-'
  if (ns < 1000) return `${ns} ns`
  if (ns < 1_000_000) return `${(ns / 1000).toFixed(ns < 100_000 ? 1 : 0)} us`
  if (ns < 1_000_000_000) return `${(ns / 1_000_000).toFixed(ns < 100_000_000 ? 1 : 0)} ms`
  return `${(ns / 1_000_000_000).toFixed(1)} s`
}
