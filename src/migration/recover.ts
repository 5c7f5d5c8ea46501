// SPDX-License-Identifier: GPL-2.0-or-later

import { rmdir, unlink } from 'node:fs/promises'
import path from 'node:path'
import { ExitCode, VblkError } from '../errors.ts'
import { QmpCommandError, type StatusInfo } from '../qmp/index.ts'
import type { Vm } from '../vm/vm.ts'
import { isChannelDir } from './channel.ts'
import { type Found, vmOf } from './find-sides.ts'
import { finish } from './finish.ts'
import { isThisHost } from './hosts/machine.ts'
import { Journal } from './journal/journal.ts'
import type { MigrationRecord } from './journal/record.ts'
import type { JournalStore } from './journal/store.ts'
import { undoPreparation } from './make-ready.ts'
import type { Report, Side, Sides } from './options.ts'
import { OutcomeUnknownError } from './outcome-unknown.ts'
import type { Remains } from './plan.ts'
import { remainsOf } from './remains.ts'
import { rollBack } from './rollback.ts'
import { runDestination } from './run.ts'
import { readStandstill } from './standstill.ts'
import { writeCacheFault } from './write-cache.ts'

export interface RecoverOptions {
  journal: JournalStore
  report: Report
  found: Record<Side, Found>
  /** What the user knows of a destination that has ended after `commit`: whether the VM may have run there. */
  destinationRan?: boolean | undefined
  /** Why the migration ends, for the journal; that it was left, unless given. */
  why?: string
}

export interface Recovered {
  id: string
  /** The only side that may open the disks for writing. */
  owner: Side
  /** The owner's QMP socket. */
  ownerName: string
  /** Whether the VM runs at the owner, stands still there, or is lost. */
  vm: 'running' | 'stopped' | 'lost'
  /** What was done, in one line. */
  message: string
}

const answerMs = 10_000

/**
 * Brings a migration whose vblk has ended to its end: back to the source if the destination was not allowed to run, else
 * to the destination. Whoever returns has named the one owner of the disks. Throws OutcomeUnknownError (exit code 8)
 * when a side is out of reach and nobody has vouched for its end, or when a step fails; then it can be done again.
 */
export async function recover(record: MigrationRecord, options: RecoverOptions): Promise<Recovered> {
  const { found, report, destinationRan, why = `left in phase ${record.phase}` } = options
  for (const side of ['source', 'destination'] as const) {
    const there = found[side]
    if (typeof there === 'object' && 'unreachable' in there) throw outOfReach(record, side, there.unreachable)
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
    why,
  }
  const recovered = record.owner === 'source' ? await toSource(recovery) : await toDestination(recovery)
  await removeChannel(record)
  return recovered
}

interface Recovery {
  record: MigrationRecord
  journal: Journal
  report: Report
  plan: Remains
  sides: Sides
  isThere: Record<Side, boolean>
  destinationRan: boolean | undefined
  why: string
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

async function backToSource(recovery: Recovery, cause: VblkError): Promise<Recovered> {
  const { journal, report, plan, sides, isThere } = recovery
  const outcome = await rollBack(cause, sides, plan, report, journal, !isThere.destination)
  if (outcome instanceof OutcomeUnknownError) throw outcome
  return await ended(recovery, 'source', plan.wasRunning ? 'running' : 'stopped', 'rolled back to the source')
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

async function ended(recovery: Recovery, owner: Side, vm: Recovered['vm'], message: string): Promise<Recovered> {
  const { record, journal, report, why } = recovery
  if (journal.record.outcome === null) {
    const outcome = { vm, error: why, downtimeMs: record.downtimeMs ?? null }
    await journal.close(owner === 'source' ? 'rolled-back' : 'done', outcome, (text) => report.warn(text))
  }
  return { id: record.id, owner, ownerName: record[owner].name, vm: journal.record.outcome?.vm ?? vm, message }
}

/** Nobody has the VM; its disks still belong to the owner by the token, who may start it anew from them. */
async function lost(recovery: Recovery, why: string): Promise<Recovered> {
  recovery.report.warn(`the VM is lost: ${why}; its disks are as at a power failure`)
  return await ended(recovery, recovery.journal.record.owner, 'lost', why)
}

async function hasNoStream({ qmp }: Vm): Promise<boolean> {
  const { status } = await qmp.execute('query-migrate', {}, { timeoutMs: answerMs })
  return status === undefined || status === 'none'
}

async function hasAll({ qmp }: Vm): Promise<boolean> {
  const { status } = await qmp.execute('query-migrate', {}, { timeoutMs: answerMs })
  return status === 'completed'
}

async function hasImages({ sides, record }: Recovery): Promise<boolean> {
  const nodes = await sides.destination.qmp.execute('query-named-block-nodes', { flat: true }, { timeoutMs: answerMs })
  const files = new Set(record.disks.map(({ file, copy }) => copy?.file ?? file))
  return nodes.some((node) => node.active === true && !node.ro && files.has(node.file))
}

const readStatus = ({ qmp }: Vm): Promise<StatusInfo> => qmp.execute('query-status', {}, { timeoutMs: answerMs })

async function quit({ qmp }: Vm): Promise<void> {
  await qmp.execute('quit', {}, { timeoutMs: answerMs })
}

/** Only an empty folder of a channel's name goes: a record must not lead to anything else. */
async function removeChannel({ channel, hosts }: MigrationRecord): Promise<void> {
  // It is on the source's host.
  if (!isChannelDir(channel) || (hosts !== undefined && !isThisHost(hosts.source))) return
  for (const name of ['migrate.sock', 'nbd.sock']) await unlink(path.join(channel, name)).catch(() => {})
  await rmdir(channel).catch(() => {})
}

function outOfReach(record: MigrationRecord, side: Side, why: string): OutcomeUnknownError {
  const { name } = record[side]
  return new OutcomeUnknownError(
    `migration ${record.id} was left in phase ${record.phase}, its ${record.owner} owns the disks, and its ${side} can't be asked: ${why}`,
    `once you have made sure that this QEMU is gone: vblk migrate recover ${record.id} --fenced ${name}`,
    undefined,
  )
}

function mayHaveRun({ id, source, destination, disks }: MigrationRecord): OutcomeUnknownError {
  const files = disks.flatMap(({ file }) => file ?? []).join(', ')
  return new OutcomeUnknownError(
    `migration ${id} was left as ${destination.name} was about to be told to run the VM; its QEMU is gone, and nobody can tell whether it ran`,
    `look at its log, the guest's log and network, and when the disks were last written (${files || 'none'}). If the VM did not run there, it can go on at ${source.name}: vblk migrate recover ${id} --destination-ran no. If it did, or you can't tell: --destination-ran yes, and start it anew from its disks`,
    undefined,
  )
}
