// SPDX-License-Identifier: GPL-2.0-or-later

import { expect, test } from '@jest/globals'
import { addHistograms, percentile, subtractHistogram, totalCount } from '../../../src/disk/histogram.ts'
import { type Histogram, LATENCY_BUCKETS } from '../../../src/host/vhost-blk.ts'

function histogram(counts: Record<number, number>, sumNs = 0): Histogram {
  return { sumNs, counts: Array.from({ length: LATENCY_BUCKETS }, (_, index) => counts[index] ?? 0) }
}

test('no request has no percentile', () => {
  expect(percentile(histogram({}), 0.5)).toBeNull()
})

test('a percentile lies in the bucket of its request, by its rank there', () => {
  // Bucket 5 is 2048 to 2559 ns.
  expect(percentile(histogram({ 5: 1 }), 0.5)).toBe(2304)
  expect(percentile(histogram({ 5: 4 }), 1)).toBe(2560)
  expect(percentile(histogram({ 0: 99, 101: 1 }), 0.5)).toBeLessThan(1024)
  expect(percentile(histogram({ 0: 99, 101: 1 }), 0.999)).toBe(2 ** 35)
})

test('of known times the percentiles are right to a quarter', () => {
  const times = Array.from({ length: 1000 }, (_, index) => 1000 + index * 997)
  const bucket = (ns: number) => {
    const power = Math.floor(Math.log2(ns))
    return ns < 1024 ? 0 : 1 + (power - 10) * 4 + (Math.floor(ns / 2 ** (power - 2)) & 3)
  }
  const counts: Record<number, number> = {}
  for (const ns of times) counts[bucket(ns)] = (counts[bucket(ns)] ?? 0) + 1
  for (const part of [0.1, 0.5, 0.95, 0.99]) {
    const exact = times[Math.floor(times.length * part)] ?? 0
    const found = percentile(histogram(counts), part) ?? 0
    expect({ part, close: Math.abs(found - exact) / exact < 0.25 }).toEqual({ part, close: true })
  }
})

test('adds, and tells what came in between; counters that began anew count from their beginning', () => {
  const sum = addHistograms([histogram({ 1: 1 }, 5), histogram({ 1: 2, 3: 1 }, 7)])
  expect(sum).toEqual(histogram({ 1: 3, 3: 1 }, 12))
  expect(totalCount(sum)).toBe(4)
  expect(subtractHistogram(sum, histogram({ 1: 2 }, 2))).toEqual(histogram({ 1: 1, 3: 1 }, 10))
  expect(subtractHistogram(histogram({ 1: 1 }, 3), sum)).toEqual(histogram({ 1: 1 }, 3))
})
