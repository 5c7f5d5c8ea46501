// SPDX-License-Identifier: GPL-2.0-or-later

import { expect, test } from '@jest/globals'
import { workOf } from '../../../src/disk/rates.ts'
import type { DiskTotals, StatsSample } from '../../../src/disk/stats.ts'
import type { QueueFigures } from '../../../src/host/kernel-queues.ts'
import { type Histogram, LATENCY_BUCKETS } from '../../../src/host/vhost-blk.ts'
import { formatOpenMetrics } from '../../../src/ui/openmetrics.ts'
import { formatTime, formatWork } from '../../../src/ui/stats-text.ts'

const none: DiskTotals = {
  reads: 0,
  writes: 0,
  flushes: 0,
  discards: 0,
  readBytes: 0,
  writeBytes: 0,
  readTimeNs: 0,
  writeTimeNs: 0,
  flushTimeNs: 0,
  errors: 0,
}

function times(bucket: number, count: number): Histogram {
  return { sumNs: count * 2000, counts: Array.from({ length: LATENCY_BUCKETS }, (_, i) => (i === bucket ? count : 0)) }
}

function queue(number: number, reads: number): QueueFigures {
  const latency = { read: times(5, reads), write: times(0, 0), flush: times(0, 0), other: times(0, 0) }
  const zero = { inflight: 1, held: 0, writes: 0, flushes: 0, others: 0, errors: 0, writeBytes: 0 }
  return { queue: number, running: true, reads, readBytes: reads * 4096, latency, ...zero }
}

function sample(atMs: number, totals: Partial<DiskTotals>, queues: QueueFigures[] | null): StatsSample {
  const disk = { id: 'd1', path: '/machine/peripheral/d1', datapath: 'kernel' as const, reason: '' }
  return { atMs, problems: [], disks: [{ ...disk, totals: { ...none, ...totals }, queues }] }
}

test('without an earlier sample all that was done counts', () => {
  const now = sample(0, { reads: 30, readBytes: 30 * 4096, readTimeNs: 60_000 }, [queue(0, 10), queue(1, 20)])
  const [disk] = workOf(now)
  expect(disk?.all).toMatchObject({ reads: 30, readBytes: 30 * 4096, read: { average: 2000, p50: 2304 } })
  expect(disk?.all.write).toEqual({ average: null, p50: null, p95: null, p99: null })
  expect(disk?.queues).toMatchObject([
    { queue: 0, reads: 10, inflight: 1 },
    { queue: 1, reads: 20 },
  ])
})

test('with one, what came since; a queue that appeared in between counts whole', () => {
  const earlier = sample(0, { reads: 30, readTimeNs: 60_000 }, [queue(0, 30)])
  const now = sample(2000, { reads: 50, readTimeNs: 90_000 }, [queue(0, 40), queue(1, 10)])
  const [disk] = workOf(now, earlier)
  expect(disk?.all).toMatchObject({ reads: 20, read: { average: 1500 } })
  expect(disk?.queues).toMatchObject([{ reads: 10 }, { reads: 10 }])
  const text = formatWork(workOf(now, earlier), 2).split('\n')
  expect(text[0]).toMatch(/^DISK +QUEUE +DATAPATH +READS\/S/)
  expect(text[1]).toMatch(/^d1 +all +kernel +10 /)
  expect(text).toHaveLength(4)
})

test('counters that began anew give no negative rates', () => {
  const earlier = sample(0, { reads: 1000 }, [queue(0, 1000)])
  const [disk] = workOf(sample(1000, { reads: 5 }, [queue(0, 5)]), earlier)
  expect(disk?.all.reads).toBe(5)
  expect(disk?.queues?.[0]?.reads).toBe(5)
})

test('without the kernel there are averages, and no percentiles', () => {
  const [disk] = workOf(sample(0, { writes: 4, writeTimeNs: 10_000_000 }, null))
  expect(disk?.queues).toBeNull()
  expect(disk?.all.write).toEqual({ average: 2_500_000, p50: null, p95: null, p99: null })
})

test('times are short to read', () => {
  expect([null, 999, 1500, 150_400, 2_500_000, 250_000_000, 34_000_000_000].map(formatTime)).toEqual([
    '-',
    '999 ns',
    '1.5 us',
    '150 us',
    '2.5 ms',
    '250 ms',
    '34.0 s',
  ])
})

test('OpenMetrics: cumulative buckets in seconds, labels that can contain anything, and an end', () => {
  const text = formatOpenMetrics('/run/a "b"\n\\.qmp', sample(0, { reads: 10, errors: 2 }, [queue(0, 10)]))
  const lines = text.split('\n')
  expect(lines.at(-1)).toBe('# EOF')
  const labels = 'vm="/run/a \\"b\\"\\n\\\\.qmp",disk="d1"'
  expect(lines).toContain(`vblk_requests_total{${labels},op="read"} 10`)
  expect(lines).toContain(`vblk_request_errors_total{${labels}} 2`)
  const name = 'vblk_kernel_request_duration_seconds'
  const of = (le: string) => `${name}_bucket{${labels},queue="0",op="read",le="${le}"}`
  expect(lines).toContain(`${of('0.000002048')} 0`)
  expect(lines).toContain(`${of('0.000004096')} 10`)
  expect(lines).toContain(`${of('34.359738368')} 10`)
  expect(lines).toContain(`${of('+Inf')} 10`)
  expect(lines).toContain(`${name}_count{${labels},queue="0",op="read"} 10`)
  expect(lines).toContain(`${name}_sum{${labels},queue="0",op="read"} 0.00002`)
  for (const line of lines.filter((text) => !text.startsWith('#'))) {
    expect(line).toMatch(/^[a-z_]+\{([a-z]+="([^"\\\n]|\\["n\\])*",?)+\} \d+(\.\d+)?(e-\d+)?$/)
  }
})
