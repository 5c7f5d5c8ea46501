// SPDX-License-Identifier: GPL-2.0-or-later

import type { QueueFigures } from '../host/kernel-queues.ts'
import type { Histogram, latencyTypes } from '../host/vhost-blk.ts'
import { addHistograms, percentile, subtractHistogram } from './histogram.ts'
import type { DiskStats, DiskTotals, StatsSample } from './stats.ts'

/** Times in ns; null where there was no such request. */
export interface Times {
  average: number | null
  /** Null also where only averages are known: without the kernel's histograms. */
  p50: number | null
  p95: number | null
  p99: number | null
}

/** What was done in some time, and how long it took. */
export interface Work {
  reads: number
  writes: number
  flushes: number
  readBytes: number
  writeBytes: number
  errors: number
  read: Times
  write: Times
}

export interface DiskWork extends Pick<DiskStats, 'id' | 'path' | 'datapath' | 'reason'> {
  all: Work
  queues: (Work & { queue: number; inflight: number })[] | null
}

/** What all disks have done since they were made, or since an earlier sample. */
export function workOf(now: StatsSample, earlier?: StatsSample): DiskWork[] {
  return now.disks.map((disk) => {
    const before = earlier?.disks.find(({ path }) => path === disk.path)
    const { id, path, datapath, reason } = disk
    const queues = disk.queues?.map((queue) => {
      const then = before?.queues?.find((other) => other.queue === queue.queue)
      return { queue: queue.queue, inflight: queue.inflight, ...workOfQueue(queue, then) }
    })
    return { id, path, datapath, reason, all: workOfDisk(disk, before), queues: queues ?? null }
  })
}

function workOfDisk(disk: DiskStats, before: DiskStats | undefined): Work {
  const since = sinceThen<DiskTotals>(disk.totals, before?.totals)
  const times = (type: 'read' | 'write', requests: number, timeNs: number): Times => {
    const kernel = disk.queues && sumOfQueues(disk.queues, type)
    const then = before?.queues && sumOfQueues(before.queues, type)
    const histogram = kernel && then ? subtractHistogram(kernel, then) : kernel
    // What QEMU served itself is in its sum alone.
    return { ...timesOf(histogram ?? { sumNs: 0, counts: [] }), average: average(timeNs, requests) }
  }
  return {
    ...figures(since),
    read: times('read', since.reads, since.readTimeNs),
    write: times('write', since.writes, since.writeTimeNs),
  }
}

function workOfQueue(queue: QueueFigures, before: QueueFigures | undefined): Work {
  const latency = (type: 'read' | 'write') => {
    const then = before?.latency[type]
    return then === undefined ? queue.latency[type] : subtractHistogram(queue.latency[type], then)
  }
  const { latency: _, running: __, ...counters } = queue
  const { latency: ___, running: ____, ...countersThen } = before ?? { latency: undefined, running: undefined }
  const since = sinceThen(counters, before && (countersThen as typeof counters))
  return { ...figures(since), read: timesOf(latency('read')), write: timesOf(latency('write')) }
}

function figures({ reads, writes, flushes, readBytes, writeBytes, errors }: Omit<Work, 'read' | 'write'>) {
  return { reads, writes, flushes, readBytes, writeBytes, errors }
}

const sumOfQueues = (queues: QueueFigures[], type: (typeof latencyTypes)[number]) =>
  addHistograms(queues.map(({ latency }) => latency[type]))

function timesOf(histogram: Histogram): Times {
  const requests = histogram.counts.reduce((sum, count) => sum + count, 0)
  const [p50 = null, p95 = null, p99 = null] = [0.5, 0.95, 0.99].map((part) => percentile(histogram, part))
  return { average: average(histogram.sumNs, requests), p50, p95, p99 }
}

const average = (timeNs: number, requests: number) => (requests === 0 ? null : Math.round(timeNs / requests))

/** Differences of counters; all of the later ones if they began anew, as those of a device that was plugged in again. */
function sinceThen<T extends { [name in keyof T]: number }>(now: T, then: T | undefined): T {
  if (then === undefined) return now
  const names = Object.keys(now) as (keyof T)[]
  if (names.some((name) => name !== 'inflight' && name !== 'held' && now[name] < then[name])) return now
  return Object.fromEntries(names.map((name) => [name, now[name] - then[name]])) as T
}
