// SPDX-License-Identifier: GPL-2.0-or-later
// Recovery of a migration that was left while a part of the VM's memory was on either side.

import { ExitCode, VblkError } from '../../errors.ts'
import type { MigrationInfo } from '../../qmp/index.ts'
import { finish } from '../finish.ts'
import type { MigrationRecord } from '../journal/record.ts'
import { OutcomeUnknownError } from '../outcome-unknown.ts'
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
} from '../recovery.ts'
import { follow } from './follow.ts'
import { awaitLoaded, awaitPassedOn, runInPostcopy } from './hand-over.ts'
import { hasPassedOn } from './states.ts'
import { matchWriteCaches } from './write-caches.ts'

/**
 * Brings a migration in `handover` or `postcopy` to its end: back to a source that has not passed the VM on, else on to the destination.
 * Throws OutcomeUnknownError, and VblkError (exit code 6) while the way for the memory can't be made anew.
 */
export async function recoverPostcopy(recovery: Recovery): Promise<Recovered> {
  const { record, sides, isThere } = recovery
  if (!isThere.source) return await withoutSource(recovery)
  const info = await awaitPassedOn(sides.source).catch((error) => {
    throw undecided(record, error)
  })
  if (record.phase === 'handover' && !hasPassedOn(info)) return await back(recovery, 'its source has kept the VM')
  if (!isThere.destination) return await withoutDestination(recovery, info)
  return await onwards(recovery)
}

async function back(recovery: Recovery, why: string): Promise<Recovered> {
  const { id } = recovery.record
  return await backToSource(recovery, new VblkError('LEFT', ExitCode.RolledBack, `migration ${id}: ${why}`))
}

/** What the destination lacks is gone for good. */
async function withoutSource(recovery: Recovery): Promise<Recovered> {
  const { sides, isThere } = recovery
  if (isThere.destination && (await hasAll(sides.destination))) return await onwards(recovery)
  if (isThere.destination) await quit(sides.destination)
  return await lost(recovery, "the source's QEMU is gone, and a part of the VM's memory with it")
}

async function withoutDestination(recovery: Recovery, info: MigrationInfo): Promise<Recovered> {
  const { record, report, sides, destinationRan } = recovery
  if (info.status === 'completed') {
    // Then the source has all of the memory, as old as the switchover.
    if (record.phase === 'handover') return await back(recovery, 'its destination was never told to run')
    if (destinationRan === undefined) throw mayHaveRun(record)
    if (!destinationRan) return await back(recovery, 'its destination ended before it ran the VM, as you say')
  }
  // QEMU lets it go on by itself if its migration fails at the very end.
  await sides.source.qmp.execute('stop', {}, { timeoutMs: answerMs })
  report.warn(
    `${sides.source.name} still has a part of the VM's memory, and stands still: the destination may have written to the disks since, so never let it go on; end its QEMU`,
  )
  return await lost(recovery, "the destination's QEMU had the VM and is gone")
}

/** The VM is at the destination: it runs there, or is let to, and what it lacks of its memory comes after. */
async function onwards(recovery: Recovery): Promise<Recovered> {
  const { record, journal, report, plan, sides, isThere, timeoutMs } = recovery
  const status = await awaitLoaded(sides.destination).catch((error) => {
    if (error instanceof VblkError && error.code === 'MIGRATION_FAILED') return undefined
    throw undecided(record, error)
  })
  if (status === undefined) return await notLoaded(recovery)
  if (plan.wasRunning && status === 'paused' && !(await hasImages(recovery))) {
    await matchWriteCaches(sides.destination, placesOf(recovery), report)
    await journal.enter('postcopy')
    await runInPostcopy(sides)
  }
  if (isThere.source) {
    await removeChannel(record)
    await follow(sides, { report, journal, timeoutMs })
  }
  const { running } = await readStatus(sides.destination)
  await journal.enter('finish')
  await finish(sides, plan, report)
  return await ended(recovery, 'destination', running ? 'running' : 'stopped', 'the VM has moved')
}

/** A QEMU that comes to no decision: nobody may run the VM before it does. */
function undecided({ id, phase, source, destination }: MigrationRecord, cause: unknown): OutcomeUnknownError {
  return new OutcomeUnknownError(
    `migration ${id} was left in phase ${phase}, and its QEMUs don't tell who has the VM: ${(cause as Error).message}`,
    `see query-migrate of ${source.name} and ${destination.name}; then: vblk migrate recover ${id}`,
    cause,
  )
}

/** The way was cut before the destination had the state of all devices: QEMU lets neither side have the VM. */
async function notLoaded(recovery: Recovery): Promise<Recovered> {
  const { sides, report } = recovery
  await quit(sides.destination)
  report.warn(`${sides.source.name} stands still and can't go on: end its QEMU`)
  return await lost(recovery, 'the source had passed it on, and the destination could not load it')
}

const placesOf = ({ record }: Recovery) =>
  record.disks.map(({ name, destinationPath, writeCache }) => ({ name, path: destinationPath, writeCache }))
