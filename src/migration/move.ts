// SPDX-License-Identifier: GPL-2.0-or-later

import type { RunState } from '../qmp/index.ts'
import type { MigrationChannel } from './channel.ts'
import { send, sendAll } from './commands.ts'
import type { Deadline } from './deadline.ts'
import { type Downtime, DowntimeClock } from './downtime.ts'
import type { Journal } from './journal/journal.ts'
import type { MigrationRecord } from './journal/record.ts'
import { orUndo } from './make-ready.ts'
import type { Report, Sides } from './options.ts'
import { OutcomeUnknownError } from './outcome-unknown.ts'
import { listenCommands, type ReadyPlan, startCommand } from './plan.ts'
import { follow } from './postcopy/follow.ts'
import { handOver } from './postcopy/hand-over.ts'
import { awaitSwitchover } from './postcopy/start.ts'
import { progressOf } from './progress-of.ts'
import { rollBack } from './rollback.ts'
import { runDestination } from './run.ts'
import { endCopies } from './storage/copy-storage.ts'
import type { Job } from './storage/jobs.ts'
import { type Switchover, switchOver } from './switchover.ts'

/** What is known once the destination has the VM. */
export type Moved = Switchover & {
  status: RunState
  /** Null for a VM that stood still anyway. */
  downtime: Downtime | null
  /** How the copies of the storage that goes along have ended. */
  copies: readonly Job[]
  /** The VM ran at the destination before all of its memory was there. */
  inPostcopy: boolean
}

/** What the journal keeps of it. */
export function downtimeRecord({ downtime }: Moved): Pick<MigrationRecord, 'downtimeMs' | 'downtimePhases'> {
  return { downtimeMs: downtime?.totalMs ?? null, downtimePhases: downtime?.phases ?? null }
}

/**
 * Moves the VM between two QEMUs that are ready for it, and lets it run. Whatever fails before that is undone or rolled
 * back.
 */
export async function move(
  sides: Sides,
  plan: ReadyPlan,
  channel: MigrationChannel,
  report: Report,
  journal: Journal,
  deadline: Deadline,
): Promise<Moved> {
  const { signal } = deadline
  const clock = new DowntimeClock()
  clock.follow(sides)
  try {
    await orUndo(sides, plan, report, journal, deadline, () =>
      sendAll(sides, listenCommands(channel.listenUri), { signal }),
    )
    const moved = await moveUntilNoReturn(sides, plan, channel.uri, report, journal, deadline, clock)
    const downtime = plan.wasRunning ? clock.downtime : null
    if (!moved.inPostcopy) return { ...moved, downtime }
    return {
      ...moved,
      downtime,
      migration: await follow(sides, { report, journal, timeoutMs: deadline.timeoutMs, signal: deadline.user }),
    }
  } finally {
    clock.close()
  }
}

/** Moves the VM, and lets it run. A failure before that is rolled back. */
async function moveUntilNoReturn(
  sides: Sides,
  plan: ReadyPlan,
  uri: string,
  report: Report,
  journal: Journal,
  deadline: Deadline,
  clock: DowntimeClock,
): Promise<Omit<Moved, 'downtime'>> {
  const { signal } = deadline
  try {
    await journal.enter('copy')
    await send(sides, startCommand(uri), { signal })
    const inPostcopy = await report.step('copying memory', ({ detail }) =>
      awaitSwitchover(sides, plan, { signal, watch: (info) => detail(progressOf(info)) }),
    )
    return await report.step('switching over', async () => {
      const copies = await endCopies(sides, plan, signal)
      if (inPostcopy) {
        return { ...(await handOver(sides, plan, report, journal, signal, clock)), copies, inPostcopy }
      }
      const switchover = await switchOver(sides, plan, report, journal, signal)
      signal.throwIfAborted()
      await journal.passOn('commit', switchover.disks)
      clock.verified()
      const status = plan.wasRunning ? await runDestination(sides) : 'paused'
      return { ...switchover, copies, inPostcopy, status }
    })
  } catch (error) {
    if (error instanceof OutcomeUnknownError) throw error
    throw await rollBack(deadline.explain(error), sides, plan, report, journal)
  }
}
