// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import { QmpCommandError } from '../qmp/index.ts'
import type { Vm } from '../vm/vm.ts'
import { type Found, vmOf } from './find-sides.ts'
import { finish } from './finish.ts'
import { Journal } from './journal/journal.ts'
import type { MigrationRecord } from './journal/record.ts'
import type { JournalStore } from './journal/store.ts'
import { undoPreparation } from './make-ready.ts'
import type { Report, Side } from './options.ts'
import { OutcomeUnknownError } from './outcome-unknown.ts'
import { recoverPostcopy } from './postcopy/recover.ts'
import {
  answerMs,
  backToSource,
  ended,
  hasAll,
  hasImages,
  lost,
  mayHaveRun,
  quit,
  type Recovered,
  type Recovery,
  readStatus,
  removeChannel,
} from './recovery.ts'
import { remainsOf } from './remains.ts'
import { rollBack } from './rollback.ts'
import { runDestination } from './run.ts'
import { readStandstill } from './standstill.ts'
import { writeCacheFault } from './write-cache.ts'

export type { Recovered } from './recovery.ts'

export interface RecoverOptions {
  journal: JournalStore
  report: Report
  found: Record<Side, Found>
  /** What the user knows of a destination that has ended after `commit`: whether the VM may have run there. */
  destinationRan?: boolean | undefined
  /** How long a way for memory in postcopy that was cut is made anew again and again; a minute unless told. */
  timeoutMs?: number
  /** Why the migration ends, for the journal; that it was left, unless given. */
  why?: string
}

/**
 * Brings a migration whose vblk has ended to its end: back to the source if the destination was not allowed to run, else
 * to the destination. Whoever returns has named the one owner of the disks. Throws OutcomeUnknownError (exit code 8)
 * when a side is out of reach and nobody has vouched for its end, or when a step fails; then it can be done again.
 */
export async function recover(record: MigrationRecord, options: RecoverOptions): Promise<Recovered> {
  const { found, report, destinationRan, timeoutMs = 60_000, why = `left in phase ${record.phase}` } = options
  for (const side of ['source', 'destination'] as const) {
    const there = found[side]
    if (typeof there === 'object' && 'unreachable' in there)
      throw outOfReach(record, side, there.unreachable, found.source === 'gone')
  }
  const journal = new Journal(options.journal, record)
  const recovery: Recovery = {
    record,
    journal,
    report,
    plan: remainsOf(record),
    sides: { source: vmOf(found.source, record.source), destination: vmOf(found.destination, record.destination) },
    isThere: { source: found.source !== 'gone', destination: found.destination !== 'gone' },
    destinationRan,
    timeoutMs,
    why,
  }
  const recovered = await toOwner(recovery)
  await removeChannel(record)
  return recovered
}

async function toOwner(recovery: Recovery): Promise<Recovered> {
  const { phase, owner } = recovery.record
  if (phase === 'handover' || phase === 'postcopy') return await recoverPostcopy(recovery)
  return owner === 'source' ? await toSource(recovery) : await toDestination(recovery)
}

/** The destination was never told to run, and is not from now on: before `commit` nobody does. */
async function toSource(recovery: Recovery): Promise<Recovered> {
  const { record, journal, report, plan, sides, isThere, why } = recovery
  const cause = new VblkError('LEFT', ExitCode.RolledBack, `migration ${record.id}: ${why}`)
  if (!isThere.source) return await withoutSource(recovery)
  const onlyReady = record.phase === 'prepare' || record.phase === 'prepared'
  if (onlyReady && isThere.destination && (await hasNoStream(sides.destination))) {
    await undoPreparation(sides, plan, report, journal, cause)
    return await ended(recovery, 'source', plan.wasRunning ? 'running' : 'stopped', 'the VM was never moved')
  }
  return await backToSource(recovery, cause)
}

/** The source's QEMU is gone. The VM lives on only where all of it has arrived. */
async function withoutSource(recovery: Recovery): Promise<Recovered> {
  const { journal, sides, isThere } = recovery
  if (isThere.destination && (await hasAll(sides.destination))) {
    await warnOfWriteCaches(recovery)
    await journal.enter('commit')
    return await toDestination(recovery)
  }
  if (isThere.destination) await quit(sides.destination)
  await journal.enter('rollback')
  return await lost(recovery, "the source's QEMU is gone, and the destination did not have all of the VM")
}

/** The switchover had not got to comparing them; going back is not possible any more. */
async function warnOfWriteCaches({ record, report, sides }: Recovery): Promise<void> {
  const places = record.disks.map(({ name, destinationPath }) => ({ name, path: destinationPath }))
  const loaded = await readStandstill(sides.destination, places, { timeoutMs: answerMs })
  for (const [index, { name, writeCache }] of record.disks.entries()) {
    const there = loaded[index]?.writeCache
    if (there === undefined || there.current === null) continue
    const fault = writeCacheFault(writeCache, there, 'auto')
    if (fault !== undefined) report.warn(`${name}: ${fault}, as far as was recorded before the migration`)
  }
}

/** The destination was allowed to run. If it didn't yet, it is now; its disks are newer than the source's memory. */
async function toDestination(recovery: Recovery): Promise<Recovered> {
  const { record, journal, report, plan, sides, isThere } = recovery
  if (!isThere.destination) return await withoutDestination(recovery)
  let status = await readStatus(sides.destination)
  if (status.status === 'inmigrate') {
    throw new OutcomeUnknownError(
      `the journal says that ${sides.destination.name} has the VM, and it still waits for one`,
      `compare query-status and query-migrate of ${sides.source.name} and ${sides.destination.name}`,
      undefined,
    )
  }
  // In later phases it has been told: who has stopped it since wants that.
  const wasTold = record.phase === 'moved' || record.phase === 'finish'
  if (plan.wasRunning && status.status === 'paused' && !wasTold && !(await hasImages(recovery))) {
    await startDestination(recovery)
    status = await readStatus(sides.destination)
  }
  await journal.enter('finish')
  await finish(sides, plan, report)
  return await ended(recovery, 'destination', status.running ? 'running' : 'stopped', 'the VM has moved')
}

/**
 * The destination's QEMU is gone. `commit` is written before it is told to run, so in this phase the journal can't say
 * whether it ever ran: the source's memory is worth the whole VM, or worth nothing. Someone has to look.
 */
async function withoutDestination(recovery: Recovery): Promise<Recovered> {
  const { record, report, sides, isThere, destinationRan } = recovery
  if (isThere.source && record.phase === 'commit') {
    if (destinationRan === undefined) throw mayHaveRun(record)
    const why = `${record.destination.name} ended before it ran the VM, as you say`
    if (!destinationRan) return await backToSource(recovery, new VblkError('LEFT', ExitCode.RolledBack, why))
  }
  if (isThere.source) {
    report.warn(
      `${sides.source.name} still has the VM's memory, and stands still: the destination may have written to the disks since, so never let it go on; end its QEMU`,
    )
  }
  return await lost(recovery, "the destination's QEMU was told to run the VM and is gone")
}

async function startDestination({ sides, plan, report, journal, isThere }: Recovery): Promise<void> {
  try {
    await runDestination(sides)
  } catch (error) {
    // It refused and stands still, so the source may have the VM back.
    if (error instanceof QmpCommandError && isThere.source) throw await rollBack(error, sides, plan, report, journal)
    throw error
  }
}

async function hasNoStream({ qmp }: Vm): Promise<boolean> {
  const { status } = await qmp.execute('query-migrate', {}, { timeoutMs: answerMs })
  return status === undefined || status === 'none'
}

function outOfReach(record: MigrationRecord, side: Side, why: string, hasNoSource: boolean): OutcomeUnknownError {
  const { id, phase, owner } = record
  const { name } = record[side]
  const hangs = phase === 'postcopy' && side === 'destination' && hasNoSource
  return new OutcomeUnknownError(
    `migration ${id} was left in phase ${phase}, its ${owner} owns the disks, and its ${side} can't be asked: ${why}`,
    hangs
      ? `a VM that waits for memory of a source that has ended waits for good: end the QEMU of ${name}, then: vblk migrate recover ${id}`
      : `once you have made sure that this QEMU is gone: vblk migrate recover ${id} --fenced ${name}`,
    undefined,
  )
}
