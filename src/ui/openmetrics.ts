// SPDX-License-Identifier: GPL-2.0-or-later

import type { DiskStats, StatsSample } from '../disk/stats.ts'
import { bucketFromNs, latencyTypes } from '../host/vhost-blk.ts'

type Labels = Record<string, string>

/**
 * A sample in the format of OpenMetrics 1.0, which Prometheus reads: families of lines, and "# EOF". The kernel's times are
 * histograms with a bound for each power of two.
 */
export function formatOpenMetrics(vm: string, sample: StatsSample): string {
  const lines: string[] = []
  const disks = sample.disks.map((disk) => ({ disk, labels: { vm, disk: disk.id ?? disk.path } }))
  const family = (name: string, type: string, help: string, write: (disk: DiskStats, labels: Labels) => string[]) => {
    const samples = disks.flatMap(({ disk, labels }) => write(disk, labels))
    if (samples.length > 0) lines.push(`# TYPE ${name} ${type}`, `# HELP ${name} ${help}`, ...samples)
  }
  family('vblk_requests', 'counter', 'Requests completed, by any datapath.', ({ totals }, labels) =>
    [
      ['read', totals.reads],
      ['write', totals.writes],
      ['flush', totals.flushes],
      ['discard', totals.discards],
    ].map(([op, count]) => line('vblk_requests_total', { ...labels, op: String(op) }, Number(count))),
  )
  family('vblk_bytes', 'counter', 'Bytes read and written, by any datapath.', ({ totals }, labels) => [
    line('vblk_bytes_total', { ...labels, op: 'read' }, totals.readBytes),
    line('vblk_bytes_total', { ...labels, op: 'write' }, totals.writeBytes),
  ])
  family('vblk_request_errors', 'counter', 'Requests that failed.', ({ totals }, labels) => [
    line('vblk_request_errors_total', labels, totals.errors),
  ])
  family('vblk_kernel_datapath', 'gauge', 'Whether the host kernel serves the disk now.', ({ datapath }, labels) => [
    line('vblk_kernel_datapath', labels, datapath === 'kernel' ? 1 : 0),
  ])
  family('vblk_kernel_inflight', 'gauge', 'Requests in the kernel now, by queue.', ({ queues }, labels) =>
    (queues ?? []).map(({ queue, inflight }) =>
      line('vblk_kernel_inflight', { ...labels, queue: String(queue) }, inflight),
    ),
  )
  family(
    'vblk_kernel_request_duration_seconds',
    'histogram',
    'Times of the requests that the kernel completed, by queue.',
    ({ queues }, labels) =>
      (queues ?? []).flatMap(({ queue, latency }) =>
        latencyTypes.flatMap((op) =>
          histogramLines('vblk_kernel_request_duration_seconds', { ...labels, queue: String(queue), op }, latency[op]),
        ),
      ),
  )
  return [...lines, '# EOF'].join('\n')
}

function histogramLines(
  name: string,
  labels: Labels,
  { counts, sumNs }: { counts: number[]; sumNs: number },
): string[] {
  const lines: string[] = []
  let count = 0
  for (const [index, inBucket] of counts.entries()) {
    count += inBucket
    // Buckets are four to a power of two, after the first: 0, 4, 8 … end at one.
    if (index % 4 !== 0 || index === counts.length - 1) continue
    lines.push(line(`${name}_bucket`, { ...labels, le: String(bucketFromNs(index + 1) / 1e9) }, count))
  }
  lines.push(line(`${name}_bucket`, { ...labels, le: '+Inf' }, count))
  return [...lines, line(`${name}_count`, labels, count), line(`${name}_sum`, labels, sumNs / 1e9)]
}

function line(name: string, labels: Labels, value: number): string {
  const text = Object.entries(labels).map(([label, content]) => `${label}="${escapeLabel(content)}"`)
  return `${name}{${text.join(',')}} ${value}`
}

const escapeLabel = (text: string) => text.replace(/[\\"\n]/g, (char) => (char === '\n' ? '\\n' : `\\${char}`))
