// SPDX-License-Identifier: GPL-2.0-or-later

import { pause } from '../disk/pause.ts'
import { readVhostState } from '../disk/vhost-state.ts'
import { ExitCode, VblkError } from '../errors.ts'
import { QmpCommandError, QmpConnectionLostError, type RunState } from '../qmp/index.ts'
import type { Vm } from '../vm/vm.ts'
import { send } from './commands.ts'
import { awaitSideEnd } from './hosts/await-end.ts'
import type { Journal } from './journal/journal.ts'
import type { Report, Sides } from './options.ts'
import { OutcomeUnknownError } from './outcome-unknown.ts'
import type { Remains } from './plan.ts'
import { awaitEnd } from './status.ts'
import { removeCopies } from './storage/remove-copies.ts'

const answerMs = 10_000
const cancelMs = 30_000
const lockMs = 10_000
const datapathMs = 5000
const pollMs = 100

/** States that a migration brings a VM into. */
const ofMigration: ReadonlySet<RunState> = new Set(['finish-migrate', 'postmigrate'])

/**
 * Undoes a migration that has begun and whose destination was not told to run, and proves it: the migration is ended, the
 * destination's QEMU is ended (it can't take another migration), the VM is on the source as it was. Returns the error to
 * report: exit code 7, or 8 when the proof fails. The source is only started when the destination provably can't run:
 * `isGone` says that its QEMU is known to have ended.
 */
export async function rollBack(
  cause: unknown,
  sides: Sides,
  plan: Remains,
  report: Report,
  journal: Journal,
  isGone = false,
): Promise<VblkError> {
  const { source, destination } = sides
  let words = cause instanceof Error ? cause.message : String(cause)
  try {
    return await report.step('rolling back', async () => {
      await enterRollback(journal, report)
      const status = await endMigration(source)
      await removeCopies(source, plan)
      words += await destinationsWords(cause, destination)
      const end = isGone ? 'certain' : await endDestination(destination)
      const ended = end !== 'no answer'
      if (status === 'completed' && end !== 'certain' && !(await awaitSideEnd(sides, journal, 'destination')))
        throw destinationNotEnded(sides, words, cause)
      const state = await restoreSource(source, plan, ended)
      await restoreSettings(sides, plan)
      await proveDatapath(source, plan, report)
      if (!ended)
        report.warn(`${destination.name} does not answer: end its QEMU; it has no complete VM and can't run it`)
      const vm = state === 'running' ? 'running' : 'stopped'
      await journal.close('rolled-back', { vm, error: words, downtimeMs: null }, (message) => report.warn(message))
      const where = state === 'running' ? 'the VM runs on the source' : `the VM stands still on the source (${state})`
      return rolledBack(`${words}; rolled back: ${where}`, cause)
    })
  } catch (error) {
    if (error instanceof OutcomeUnknownError) return error
    return new OutcomeUnknownError(
      `${words}; rolling back failed: ${(error as Error).message}`,
      await whatToLookAt(sides),
      error,
    )
  }
}

/** While the source owns the disks anyway, it may be started whatever the journal says last; else it must get them back. */
async function enterRollback(journal: Journal, report: Report): Promise<void> {
  const { owner } = journal.record
  await journal.enter('rollback').catch((error: Error) => {
    if (owner !== 'source') throw error
    report.warn(error.message)
  })
}

function rolledBack(message: string, cause: unknown): VblkError {
  return new VblkError('MIGRATION_ROLLED_BACK', ExitCode.RolledBack, message, {
    hint: "the destination's QEMU can't take another migration: start a new one to try again",
    details: { cause: cause instanceof VblkError ? cause.code : null },
    cause,
  })
}

/** Why a destination could not load the VM; '' if that isn't what went wrong. */
async function destinationsWords(cause: unknown, destination: Vm): Promise<string> {
  if (!(cause instanceof VblkError) || cause.code !== 'MIGRATION_FAILED') return ''
  try {
    const { status, 'error-desc': why } = await destination.qmp.execute('query-migrate', {}, { timeoutMs: answerMs })
    return status === 'failed' && why !== undefined && !cause.message.includes(why)
      ? `; the destination says: ${why}`
      : ''
  } catch {
    return ''
  }
}

/** Ends the source's migration, however far it is. QEMU lets the VM go on by itself unless the migration has completed. */
async function endMigration(source: Vm): Promise<string> {
  await unlessRefused(source.qmp.execute('migrate_cancel', {}, { timeoutMs: answerMs }))
  const { status } = await awaitEnd(source, { signal: AbortSignal.timeout(cancelMs) })
  return status ?? 'none'
}

/**
 * Ends the destination's QEMU: 'certain' once it has promised to go. A closed monitor alone proves nothing: whoever passes
 * it on may have ended, or the monitor may have dropped us.
 */
async function endDestination({ qmp }: Vm): Promise<'certain' | 'monitor closed' | 'no answer'> {
  if (qmp.runstate !== 'running') return 'monitor closed'
  const events = qmp.events(() => false)
  try {
    await qmp.execute('quit', {}, { timeoutMs: answerMs })
    // Its image locks go with the process: wait for the end of the connection, which is the end of it.
    await events.next({ timeoutMs: answerMs }).catch(() => {})
    return 'certain'
  } catch (error) {
    return error instanceof QmpConnectionLostError ? 'monitor closed' : 'no answer'
  } finally {
    events.close()
  }
}

/** Returns the state that the VM is in: as before, or what it has come to by itself meanwhile. */
async function restoreSource({ qmp }: Vm, { wasRunning }: Remains, mayStart: boolean): Promise<RunState> {
  const deadline = Date.now() + lockMs
  while (true) {
    const { running, status } = await qmp.execute('query-status', {}, { timeoutMs: answerMs })
    if (!ofMigration.has(status) && (running || !wasRunning || status !== 'paused')) return status
    let refusal: QmpCommandError | undefined
    if (mayStart && status !== 'finish-migrate') {
      // The destination's locks may outlast its connection a little.
      refusal = await unlessRefused(wasRunning ? qmp.execute('cont') : takeImages(qmp))
      if (refusal === undefined && !wasRunning) return status
    }
    if (Date.now() > deadline) throw refusal ?? notRestored(status)
    await pause(pollMs)
  }
}

/** A VM that stood still before goes on standing still, but holds its images again. */
function takeImages(qmp: Vm['qmp']) {
  return qmp.execute('blockdev-set-active', { active: true })
}

async function restoreSettings(sides: Sides, { settings }: Remains): Promise<void> {
  for (const command of settings.restore) {
    if (command.side === 'source') await send(sides, command, { timeoutMs: answerMs })
  }
}

/** The kernel serves again what it served before; a disk that it doesn't is served by QEMU, which loses no data. */
async function proveDatapath(source: Vm, { wasRunning, disks }: Remains, report: Report): Promise<void> {
  if (!wasRunning) return
  const deadline = Date.now() + datapathMs
  for (const { name, source: disk } of disks) {
    if (disk.datapath !== 'kernel') continue
    let state = await readVhostState(source, disk.path)
    while (state?.active !== true && Date.now() < deadline) {
      await pause(pollMs)
      state = await readVhostState(source, disk.path)
    }
    if (state?.active !== true)
      report.warn(`${name}: QEMU serves it now, not the kernel: ${state?.reason ?? 'unknown'}`)
  }
}

function destinationNotEnded({ source, destination }: Sides, words: string, cause: unknown): OutcomeUnknownError {
  return new OutcomeUnknownError(
    `${words}; the destination has all of the VM, does not answer, and has not provably ended, so ${source.name} was not started again`,
    `once you have made sure that its QEMU is gone: vblk migrate recover --fenced ${destination.name}`,
    cause,
  )
}

function notRestored(status: string): VblkError {
  return new VblkError('NOT_RESTORED', ExitCode.Unknown, `the source's VM is in state ${status}`)
}

async function whatToLookAt({ source, destination }: Sides): Promise<string> {
  if (source.qmp.runstate === 'running') return `see query-status and query-migrate of ${source.name}`
  try {
    const { status } = await destination.qmp.execute('query-migrate', {}, { timeoutMs: answerMs })
    if (status === 'completed') {
      return `if the source's QEMU is gone, ${destination.name} has all of the VM and stands still: cont starts it there`
    }
  } catch {
    // Then it has nothing that could be started.
  }
  return `the source's QEMU is gone or drops us, and ${destination.name} does not have all of the VM`
}

async function unlessRefused(reply: Promise<unknown>): Promise<QmpCommandError | undefined> {
  try {
    await reply
    return undefined
  } catch (error) {
    if (error instanceof QmpCommandError) return error
    throw error
  }
}
