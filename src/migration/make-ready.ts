// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import { QmpCommandError, QmpConnectionLostError } from '../qmp/index.ts'
import { send, sendAll } from './commands.ts'
import type { Deadline } from './deadline.ts'
import { awaitSideEnd } from './hosts/await-end.ts'
import type { Journal } from './journal/journal.ts'
import type { Report, Side, Sides } from './options.ts'
import { OutcomeUnknownError } from './outcome-unknown.ts'
import type { Plan, Remains } from './plan.ts'
import { explainPostcopy } from './postcopy/refusal.ts'
import { prepareDisk, removeDisk } from './prepare.ts'
import { rollBack } from './rollback.ts'
import { closeExports, removeCopies } from './storage/remove-copies.ts'

/**
 * Makes the disks on the destination and sets what both QEMUs need. A failure leaves both sides as they were; `remains`
 * says what was made before, if something was.
 */
export async function makeReady(
  sides: Sides,
  plan: Plan,
  report: Report,
  journal: Journal,
  deadline: Deadline,
  remains: Remains = plan,
): Promise<void> {
  const { signal } = deadline
  await orUndo(sides, remains, report, journal, deadline, async () => {
    for (const disk of plan.disks) {
      const { preparation } = disk
      if (preparation === undefined) continue
      await report.step(`making ${disk.name} on the destination`, () => prepareDisk(sides, disk, preparation, signal))
    }
    await sendAll(sides, plan.settings.apply, { signal }).catch((error) => {
      throw plan.postcopy === undefined ? error : explainPostcopy(error)
    })
  })
}

/** Does a step that comes before the first byte; if it fails, both sides are made what they were. */
export async function orUndo(
  sides: Sides,
  plan: Remains,
  report: Report,
  journal: Journal,
  deadline: Deadline,
  step: () => Promise<void>,
): Promise<void> {
  try {
    await step()
  } catch (error) {
    if (await mayListen(sides, error)) throw await rollBack(deadline.explain(error), sides, plan, report, journal)
    await undoPreparation(sides, plan, report, journal, error)
    const lost = error instanceof QmpConnectionLostError && sides.destination.qmp.runstate !== 'running'
    throw lost ? destinationLost(error) : deadline.explain(error)
  }
}

/** Whether we stopped waiting for migrate-incoming, and it took effect: that can't be undone but by ending the QEMU. */
async function mayListen({ destination }: Sides, error: unknown): Promise<boolean> {
  if (error instanceof QmpCommandError || destination.qmp.runstate !== 'running') return false
  try {
    const { status } = await destination.qmp.execute('query-migrate')
    return status !== undefined && status !== 'none'
  } catch {
    return false
  }
}

/** Removes from both sides what `prepare` has done so far. Throws OutcomeUnknownError when something is left. */
export async function undoPreparation(
  sides: Sides,
  plan: Remains,
  report: Report,
  journal: Journal,
  cause: unknown,
): Promise<void> {
  const failures: { side: Side; message: string }[] = []
  const attempt = async (side: Side, work: () => Promise<void>) => {
    if (sides[side].qmp.runstate !== 'running') return
    await work().catch((error: Error) => void failures.push({ side, message: error.message }))
  }
  await report.step('removing what was made on the destination', async () => {
    await attempt('source', () => removeCopies(sides.source, plan))
    await attempt('destination', () => closeExports(sides.destination, plan, journal.record.channel))
    for (const command of plan.settings.restore) await attempt(command.side, () => send(sides, command))
    for (const { preparation } of plan.disks.toReversed()) {
      if (preparation !== undefined) await attempt('destination', () => removeDisk(sides.destination, preparation.id))
    }
  })
  const now = {
    source: await presence(sides, journal, 'source'),
    destination: await presence(sides, journal, 'destination'),
  }
  for (const side of ['source', 'destination'] as const) {
    const message = `${sides[side].name} has closed its monitor, and may still live`
    if (now[side] === 'unknown') failures.push({ side, message })
  }
  // Of a side that has ended nothing is left.
  const left = failures.filter(({ side }) => now[side] !== 'ended')
  if (left.length === 0 || now.source === 'ended') {
    const vm = now.source === 'ended' ? 'lost' : plan.wasRunning ? 'running' : 'stopped'
    const error = (cause as Error).message
    await journal.close('rolled-back', { vm, error, downtimeMs: null }, (message) => report.warn(message))
    return
  }
  throw new OutcomeUnknownError(
    `${(cause as Error).message}; undoing what had been done failed: ${left.map(({ message }) => message).join('; ')}`,
    `the VM is where it was; to undo the rest: vblk migrate recover ${journal.record.id}`,
    cause,
  )
}

/** What became of a side; one with a closed monitor may still live. */
async function presence(sides: Sides, { record }: Journal, side: Side): Promise<'there' | 'ended' | 'unknown'> {
  if (sides[side].qmp.runstate === 'running') return 'there'
  return (await awaitSideEnd(sides, { record }, side)) ? 'ended' : 'unknown'
}

function destinationLost(cause: Error): VblkError {
  return new VblkError(
    'DESTINATION_LOST',
    ExitCode.RolledBack,
    `the destination went away: ${cause.message}; the VM is untouched`,
    { cause },
  )
}
