// SPDX-License-Identifier: GPL-2.0-or-later

import { pause } from '../../disk/pause.ts'
import { type MigrationInfo, QmpCommandError, type RunState, type WaitOptions } from '../../qmp/index.ts'
import type { Vm } from '../../vm/vm.ts'
import { send } from '../commands.ts'
import type { DowntimeClock } from '../downtime.ts'
import type { Journal } from '../journal/journal.ts'
import type { Report, Sides } from '../options.ts'
import { OutcomeUnknownError } from '../outcome-unknown.ts'
import { continueCommand, type ReadyPlan } from '../plan.ts'
import { runDestination } from '../run.ts'
import type { StoppedDisk } from '../standstill.ts'
import { awaitInfo, migrationFailed } from '../status.ts'
import { mismatch, requireStandstill, type Switchover } from '../switchover.ts'
import { writeCacheFault } from '../write-cache.ts'
import { hasPassedOn, isPassingOn } from './states.ts'
import { matchWriteCaches } from './write-caches.ts'

const answerMs = 30_000
/** The VM stands still meanwhile. */
const pollMs = 5

/**
 * From pre-switchover to a VM that runs at the destination while a part of its memory is still at the source. What can be
 * checked is checked before the source is told to pass the VM on: from then on neither side has all of it. Throws VblkError and what
 * QmpClient.execute throws as long as the source can have the VM back, afterwards OutcomeUnknownError alone.
 */
export async function handOver(
  sides: Sides,
  plan: ReadyPlan,
  report: Report,
  journal: Journal,
  signal: AbortSignal,
  clock: DowntimeClock,
): Promise<Switchover & { status: RunState }> {
  const { source, destination } = sides
  const wait = { signal }
  const [disks] = await Promise.all([
    requireStandstill(source, plan, report, journal, wait),
    requireLoading(sides, wait),
  ])
  requireSafeWriteCaches(plan, disks)
  signal.throwIfAborted()
  // The source can't run from `migrate-continue` on, whether the destination does or not.
  await journal.passOn('handover', disks)
  const migration = await passOn(sides)
  try {
    await awaitLoaded(destination)
    await matchWriteCaches(destination, placesOf(plan, disks), report)
    await journal.enter('postcopy')
  } catch (error) {
    throw notRunning(destination, error)
  }
  clock.verified()
  return { migration, disks, status: await runInPostcopy(sides) }
}

/**
 * Throws VblkError unless the destination takes the stream and has not begun with anything else. A source whose stream is cut
 * says so, and may pass the VM on to nobody all the same.
 */
async function requireLoading({ source, destination }: Sides, wait: WaitOptions): Promise<void> {
  const [{ status }, { status: stream }, here] = await Promise.all([
    destination.qmp.execute('query-status', {}, wait),
    destination.qmp.execute('query-migrate', {}, wait),
    source.qmp.execute('query-migrate', {}, wait),
  ])
  if (here['error-desc'] !== undefined) throw migrationFailed(source, here, 'pre-switchover')
  if (status !== 'inmigrate') throw mismatch(`its VM is in state ${status}, not inmigrate`)
  if (stream !== 'active') throw mismatch(`its migration is ${stream ?? 'none'}, not active`)
}

/** A device that can't tell its write cache can't be mended afterwards. */
function requireSafeWriteCaches(plan: ReadyPlan, disks: readonly StoppedDisk[]): void {
  for (const [index, { name, destination }] of plan.disks.entries()) {
    const saved = disks[index]
    if (saved === undefined || destination.writeCache.current !== null) continue
    const fault = writeCacheFault(saved.writeCache, destination.writeCache, destination.writeCacheSetting)
    if (fault !== undefined) throw mismatch(`${name}: ${fault}`)
  }
}

/**
 * Tells the source to pass the VM on. Throws VblkError if it didn't: QEMU keeps it then, or has taken it back by itself, which it
 * does as long as the destination can't have heard of its end.
 */
async function passOn(sides: Sides): Promise<MigrationInfo> {
  const { source } = sides
  let refusal: QmpCommandError | undefined
  let info: MigrationInfo
  try {
    refusal = await send(sides, continueCommand, { timeoutMs: answerMs }).then(
      () => undefined,
      (error) => {
        if (error instanceof QmpCommandError) return error
        throw error
      },
    )
    info = await awaitPassedOn(source, refusal === undefined)
  } catch (error) {
    throw new OutcomeUnknownError(
      `${source.name} was told to pass the VM on and can't be heard since: ${(error as Error).message}`,
      'vblk migrate recover',
      error,
    )
  }
  if (hasPassedOn(info)) return info
  throw refusal ?? migrationFailed(source, info, 'postcopy-active')
}

/** Waits until QEMU has decided; `wasTold`: it leaves pre-switchover a little after it was told to. */
export async function awaitPassedOn(source: Vm, wasTold = false): Promise<MigrationInfo> {
  const isDecided = (info: MigrationInfo) => !isPassingOn(info) && !(wasTold && info.status === 'pre-switchover')
  return await awaitInfo(source, isDecided, { signal: AbortSignal.timeout(answerMs) })
}

/**
 * Waits until a destination has the state of all devices, and returns the state of its VM. Throws VblkError when it can't load it,
 * and what QmpClient.execute throws.
 */
export async function awaitLoaded(destination: Vm): Promise<RunState> {
  const deadline = Date.now() + answerMs
  const options = { signal: AbortSignal.timeout(answerMs) }
  const isOver = (info: MigrationInfo) => hasPassedOn(info) || info.status === 'failed'
  const info = await awaitInfo(destination, isOver, options)
  if (!hasPassedOn(info)) throw migrationFailed(destination, info, 'postcopy-active')
  while (true) {
    const { status } = await destination.qmp.execute('query-status', {}, options)
    // It says so a moment before its VM is there.
    if (status !== 'inmigrate' || Date.now() > deadline) return status
    await pause(pollMs)
  }
}

/** Lets the destination run. Throws OutcomeUnknownError alone: nobody else can. */
export async function runInPostcopy(sides: Sides): Promise<RunState> {
  try {
    return await runDestination(sides)
  } catch (error) {
    throw error instanceof OutcomeUnknownError ? error : notRunning(sides.destination, error)
  }
}

function notRunning({ name }: Vm, cause: unknown): OutcomeUnknownError {
  return new OutcomeUnknownError(
    `the source has passed the VM on, and ${name} does not run it: ${(cause as Error).message}`,
    'vblk migrate recover',
    cause,
  )
}

const placesOf = ({ disks }: ReadyPlan, saved: readonly StoppedDisk[]) =>
  disks.flatMap(({ name, destination: { path } }, index) => {
    const writeCache = saved[index]?.writeCache
    return writeCache === undefined ? [] : [{ name, path, writeCache }]
  })
