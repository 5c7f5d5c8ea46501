// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../../errors.ts'
import { isThisHost } from '../hosts/machine.ts'
import { hasEnded } from './process-identity.ts'
import { isOpen, isWaiting, type MigrationRecord, type Phase } from './record.ts'

/** A migration as its record tells it. */
export interface MigrationSummary {
  id: string
  phase: Phase
  /** The only side that may open the disks for writing. */
  owner: MigrationRecord['owner']
  /** Its QMP socket. */
  ownerName: string
  source: string
  destination: string
  startedAt: string
  /** When its last phase was entered. */
  changedAt: string
  /** under way: a vblk works on it. waiting: for the next command, `run` or `finish`. left: its vblk has ended, and `recover` is needed. unknown: nobody can tell which. */
  state: 'under way' | 'waiting' | 'left' | 'unknown' | 'over'
  disks: { name: string; file: string | null; writeCache: MigrationRecord['disks'][number]['writeCache'] }[]
  /** Milliseconds from each phase to the next. */
  phases: { phase: Phase; ms: number | null }[]
  vm: 'running' | 'stopped' | 'lost' | null
  downtimeMs: number | null
  /** Its parts, in milliseconds; null if they are not known. */
  downtimePhases: NonNullable<MigrationRecord['downtimePhases']> | null
  error: string | null
}

export function summarize(record: MigrationRecord): MigrationSummary {
  const { entered, outcome } = record
  const at = (index: number) => Date.parse(entered[index]?.at ?? '')
  return {
    id: record.id,
    phase: record.phase,
    owner: record.owner,
    ownerName: record[record.owner].name,
    source: record.source.name,
    destination: record.destination.name,
    startedAt: entered[0]?.at ?? '',
    changedAt: entered.at(-1)?.at ?? '',
    state: stateOf(record),
    disks: record.disks.map(({ name, file, writeCache }) => ({ name, file, writeCache })),
    phases: entered.map(({ phase }, index) => ({
      phase,
      ms: index + 1 < entered.length ? at(index + 1) - at(index) : null,
    })),
    vm: outcome?.vm ?? null,
    downtimeMs: outcome?.downtimeMs ?? record.downtimeMs ?? null,
    downtimePhases: record.downtimePhases ?? null,
    error: outcome?.error ?? null,
  }
}

/** Throws VblkError (exit code 9) while a vblk works on a migration. */
export function requireNotUnderWay(record: MigrationRecord): void {
  if (stateOf(record) !== 'under way') return
  throw new VblkError('MIGRATION_ACTIVE', ExitCode.Busy, `migration ${record.id} is under way`, {
    hint: `wait for its end, or: vblk migrate abort ${record.id}`,
    details: { pid: record.coordinator?.pid ?? null },
  })
}

function stateOf(record: MigrationRecord): MigrationSummary['state'] {
  if (!isOpen(record)) return 'over'
  if (isWaiting(record)) return 'waiting'
  if (record.coordinator === null) return 'unknown'
  // The vblk that began it is on the source's host.
  if (record.hosts !== undefined && !isThisHost(record.hosts.source)) return 'unknown'
  return hasEnded(record.coordinator) ? 'left' : 'under way'
}
