// SPDX-License-Identifier: GPL-2.0-or-later

import type { MigrationInfo } from '../qmp/index.ts'

/** How much is left, how fast it goes, and how fast the guest undoes it. */
export function progressOf({ ram, 'expected-downtime': downtimeMs }: MigrationInfo): string {
  if (ram === undefined || Number(ram.total) === 0) return ''
  const [total, remaining] = [Number(ram.total), Number(ram.remaining)]
  const percent = Math.max(0, 100 - (remaining / total) * 100)
  const dirtyRate = Number(ram['dirty-pages-rate'] ?? 0) * Number(ram['page-size'] ?? 0)
  return [
    `${percent.toFixed(0)} % of ${mebibytes(total)} MiB`,
    `${mebibytes(remaining)} MiB left`,
    ...(ram.mbps === undefined ? [] : [`${mebibytes((Number(ram.mbps) * 1e6) / 8)} MiB/s`]),
    ...(dirtyRate > 0 ? [`the guest changes ${mebibytes(dirtyRate)} MiB/s`] : []),
    ...(downtimeMs === undefined ? [] : [`standstill about ${Number(downtimeMs)} ms`]),
  ].join(', ')
}

const mebibytes = (bytes: number): number => Math.round(bytes / 2 ** 20)
