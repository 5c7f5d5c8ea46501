// SPDX-License-Identifier: GPL-2.0-or-later

import { bucketFromNs, type Histogram } from '../host/vhost-blk.ts'

/** The sum of histograms of the same buckets. */
export function addHistograms(histograms: readonly Histogram[]): Histogram {
  const counts = (histograms[0]?.counts ?? []).map((_, index) =>
    histograms.reduce((sum, histogram) => sum + (histogram.counts[index] ?? 0), 0),
  )
  return { sumNs: histograms.reduce((sum, { sumNs }) => sum + sumNs, 0), counts }
}

/** What came between two readings; all of the later one if the counters began anew. */
export function subtractHistogram(later: Histogram, earlier: Histogram): Histogram {
  const counts = later.counts.map((count, index) => count - (earlier.counts[index] ?? 0))
  if (counts.some((count) => count < 0)) return later
  return { sumNs: later.sumNs - earlier.sumNs, counts }
}

export const totalCount = ({ counts }: Histogram) => counts.reduce((sum, count) => sum + count, 0)

/**
 * The time below which a part of the requests (0 to 1) ended, in ns: interpolated within its bucket, which is at most a quarter
 * wide. Null when there were none.
 */
export function percentile(histogram: Histogram, part: number): number | null {
  const wanted = totalCount(histogram) * part
  if (wanted === 0) return null
  let before = 0
  for (const [index, count] of histogram.counts.entries()) {
    if (count > 0 && before + count >= wanted) {
      const from = bucketFromNs(index)
      const to = bucketFromNs(index + 1)
      return to === Number.POSITIVE_INFINITY ? from : Math.round(from + ((to - from) * (wanted - before)) / count)
    }
    before += count
  }
  return null
}
