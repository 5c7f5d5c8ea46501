// SPDX-License-Identifier: GPL-2.0-or-later

/** The middle of some values, the mean of the two middle ones of an even number. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const half = sorted.length / 2
  const middle = sorted.slice(Math.ceil(half) - 1, Math.floor(half) + 1)
  if (!middle.length) throw new Error('no values')
  return middle.reduce((sum, value) => sum + value, 0) / middle.length
}
