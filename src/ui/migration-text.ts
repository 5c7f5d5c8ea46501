// SPDX-License-Identifier: GPL-2.0-or-later

import { Args } from '@oclif/core'
import type { DowntimePhases } from '../migration/downtime.ts'
import type { DryRun } from '../migration/migrate.ts'
import type { MigratedDisk, MigratedVm } from '../migration/result.ts'
import { printable } from './printable.ts'
import { pairs, table } from './table.ts'

/** The argument that names a migration of the journal. */
export const migrationArgument = () =>
  Args.string({ description: 'its id, as "migrate status" shows it; may be left out if one is open' })

export function renderDryRun({ commands }: DryRun): string {
  return commands
    .map(({ side, execute, arguments: args }) => `${side}: ${printable(JSON.stringify({ execute, arguments: args }))}`)
    .join('\n')
}

export function renderMigrated({
  destination,
  status,
  downtimeMs,
  downtimePhases,
  totalMs,
  ramBytes,
  disks,
  postcopy,
  source,
}: MigratedVm): string {
  const facts = pairs([
    ['VM', `${status} on ${destination}`],
    ['downtime', downtimeMs === null ? '-' : `${downtimeMs.toFixed(1)} ms${partsOf(downtimePhases)}`],
    [
      'migration',
      `${totalMs} ms, ${(ramBytes / 2 ** 20).toFixed(1)} MiB sent${postcopy ? ', partly in postcopy' : ''}`,
    ],
    ['source', source === 'quit' ? 'ended' : 'kept, stopped: never start it again while the destination is there'],
  ])
  if (disks.length === 0) return facts
  const rows = table<MigratedDisk>(disks, [
    { header: 'DISK', value: ({ id }) => id ?? '-' },
    { header: 'DATAPATH', value: ({ datapath }) => change(datapath.before, datapath.after) },
    { header: 'WRITE CACHE', value: ({ writeCache }) => change(writeCache.before, writeCache.after) },
    { header: 'REASON', value: ({ reason }) => reason ?? '' },
  ])
  return [`${facts}\n\n${rows}`, ...disks.flatMap(copiedText)].join('\n')
}

/** What was copied, and what becomes of the old image. */
function copiedText({ id, copied }: MigratedDisk): string[] {
  if (copied === undefined) return []
  const { file, from, bytes, ms } = copied
  const size = `${(bytes / 2 ** 20).toFixed(1)} MiB, the first copy in ${(ms / 1000).toFixed(1)} s`
  const stale = `${from ?? 'the old image'} is as it was at the switchover and goes stale; it was not deleted`
  return [printable(`${id ?? '-'} is on ${file} now (${size}); ${stale}`)]
}

function partsOf(phases: DowntimePhases | null): string {
  if (phases === null) return ''
  const parts = Object.entries(phases).map(([phase, ms]) => `${phase} ${ms.toFixed(1)}`)
  return ` (${parts.join(', ')})`
}

function change(before: string | null, after: string | null): string {
  return `${before ?? '?'} -> ${after ?? '?'}`
}
