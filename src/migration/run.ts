// SPDX-License-Identifier: GPL-2.0-or-later

import { pause } from '../disk/pause.ts'
import { ExitCode, VblkError } from '../errors.ts'
import { QmpCommandError, QmpConnectionLostError, type RunState } from '../qmp/index.ts'
import { send } from './commands.ts'
import type { Sides } from './options.ts'
import { OutcomeUnknownError } from './outcome-unknown.ts'
import { runCommand } from './plan.ts'

const runMs = 30_000
const lockMs = 10_000
const pollMs = 100

/**
 * Lets the destination run, the point of no return, and returns the state that it is in. Throws QmpCommandError when it
 * refused and VblkError (DESTINATION_LOST) when it was never told, so that nobody runs; OutcomeUnknownError when it can't
 * be told: then the source must not be started again.
 */
export async function runDestination(sides: Sides): Promise<RunState> {
  const { source, destination } = sides
  if (destination.qmp.runstate !== 'running') {
    throw new VblkError(
      'DESTINATION_LOST',
      ExitCode.RolledBack,
      `${destination.name} went away before it was told to run the VM`,
    )
  }
  try {
    await start(sides)
    return (await destination.qmp.execute('query-status', {}, { timeoutMs: runMs })).status
  } catch (error) {
    if (error instanceof QmpCommandError && (await isStandingStill(sides))) throw error
    throw new OutcomeUnknownError(
      `${destination.name} was told to run the VM and can't be heard since: ${(error as Error).message}`,
      `don't start it in ${source.name}, where it stands still: "vblk migrate recover" tells who owns the disks, and ends the migration`,
      error,
    )
  }
}

/** A source that has just died keeps its image locks a little longer than its connection. */
async function start(sides: Sides): Promise<void> {
  const deadline = Date.now() + lockMs
  while (true) {
    try {
      return await send(sides, runCommand, { timeoutMs: runMs })
    } catch (error) {
      if (!(error instanceof QmpCommandError) || Date.now() > deadline || !(await isGone(sides))) throw error
    }
    await pause(pollMs)
  }
}

async function isGone({ source }: Sides): Promise<boolean> {
  if (source.qmp.runstate !== 'running') return true
  try {
    await source.qmp.execute('query-status', {}, { timeoutMs: lockMs })
    return false
  } catch (error) {
    return error instanceof QmpConnectionLostError
  }
}

async function isStandingStill({ destination }: Sides): Promise<boolean> {
  try {
    return !(await destination.qmp.execute('query-status', {}, { timeoutMs: runMs })).running
  } catch {
    return false
  }
}
