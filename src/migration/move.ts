// SPDX-License-Identifier: GPL-2.0-or-later

import type { MigrationInfo, RunState } from '../qmp/index.ts'
import { findProcess, readFileOwner } from '../vm/qemu-process.ts'
import { Channel, type MigrationChannel } from './channel.ts'
import { send, sendAll } from './commands.ts'
import type { Deadline } from './deadline.ts'
import { type Downtime, DowntimeClock } from './downtime.ts'
import { hostOf } from './hosts/host-of.ts'
import type { Journal } from './journal/journal.ts'
import type { MigrationRecord } from './journal/record.ts'
import { orUndo } from './make-ready.ts'
import type { Report, Sides } from './options.ts'
import { OutcomeUnknownError } from './outcome-unknown.ts'
import { listenCommands, type ReadyPlan, startCommand } from './plan.ts'
import { rollBack } from './rollback.ts'
import { runDestination } from './run.ts'
import { awaitStatus } from './status.ts'
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
}

/** What the journal keeps of it. */
export function downtimeRecord({ downtime }: Moved): Pick<MigrationRecord, 'downtimeMs' | 'downtimePhases'> {
  return { downtimeMs: downtime?.totalMs ?? null, downtimePhases: downtime?.phases ?? null }
}

/** Makes the channel of a migration, for the user that the destination's QEMU runs as if it is known: it makes the socket. */
export async function createChannel({ source, destination }: Sides): Promise<MigrationChannel> {
  const there = hostOf(destination)
  if (there !== undefined) return await (await import('./hosts/host-channel.ts')).HostChannel.create(source, there)
  const process = findProcess(destination)
  return await Channel.create('pid' in process ? ((await readFileOwner(process.pid)) ?? process) : undefined)
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
    return { ...moved, downtime: plan.wasRunning ? clock.downtime : null }
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
    await report.step('copying memory', ({ detail }) =>
      awaitStatus(sides.source, 'pre-switchover', { signal, watch: (info) => detail(progressOf(info)) }),
    )
    return await report.step('switching over', async () => {
      const copies = await endCopies(sides, plan, signal)
      const switchover = await switchOver(sides, plan, report, journal, signal)
      signal.throwIfAborted()
      await journal.enterCommit(switchover.disks)
      clock.verified()
      return { ...switchover, copies, status: plan.wasRunning ? await runDestination(sides) : 'paused' }
    })
  } catch (error) {
    if (error instanceof OutcomeUnknownError) throw error
    throw await rollBack(deadline.explain(error), sides, plan, report, journal)
  }
}

/** How much is left, how fast it goes, and how fast the guest undoes it. */
function progressOf({ ram, 'expected-downtime': downtimeMs }: MigrationInfo): string {
  if (ram === undefined || Number(ram.total) === 0) return ''
  const [total, remaining] = [Number(ram.total), Number(ram.remaining)]
  const percent = Math.max(0, 100 - (remaining / total) * 100)
  const dirtyRate = Number(ram['dirty-pages-rate'] ?? 0) * Number(ram['page-size'] ?? 0)
  return [
    `${percent.toFixed(0)} % of ${mebibytes(total)} MiB`,
    `${mebibytes(remaining)} MiB left`,
    ...(ram.mbps === undefined ? [] : [`${mebibytes((Number(ram.mbps) * 1e6) / 8)} MiB/s`]),
    ...(dirtyRate > 0 ? [`the guest changes ${mebibytes(dirtyRate)} MiB/s`] : []),
    ...(downtimeMs === undefined ? [] : [`standstill about ${Number(downtimeMs)} ms`]),
  ].join(', ')
}

const mebibytes = (bytes: number): number => Math.round(bytes / 2 ** 20)
