// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import { exampleUri } from './channel.ts'
import { check } from './check.ts'
import type { SideCommand } from './commands.ts'
import { createChannel } from './create-channel.ts'
import { Deadline } from './deadline.ts'
import { finish } from './finish.ts'
import { journalOf } from './hosts/both-stores.ts'
import { Journal } from './journal/journal.ts'
import { makeReady, orUndo } from './make-ready.ts'
import { downtimeRecord, move } from './move.ts'
import type { MigrateOptions, Report, Sides } from './options.ts'
import { type Plan, planCommands } from './plan.ts'
import { type MigratedVm, migratedVm } from './result.ts'
import { copiedDisks } from './storage/copy.ts'
import { copiedStorage, copyStorage } from './storage/copy-storage.ts'

export interface DryRun {
  dryRun: true
  vm: string
  destination: string
  /** What would be sent, in order, and to whom. */
  commands: SideCommand[]
}

/**
 * Moves a VM from one QEMU to another on this host. Until the destination is told to run, whatever fails is rolled back:
 * exit codes 3, 4, 5 and 9 before the migration began, 7 from then on; 8 when it can't be told who owns the disks.
 */
export async function migrate(sides: Sides, options: MigrateOptions): Promise<MigratedVm | DryRun> {
  const { report } = options
  const deadline = new Deadline(options.timeoutMs, options.signal)
  const plan = await check(sides, options, deadline)
  const [vm, destination] = [sides.source.name, sides.destination.name]
  if (options.dryRun) return { dryRun: true, vm, destination, commands: planCommands(plan, exampleUri) }

  const channel = await createChannel(sides)
  let isLeft = false
  try {
    const journal = await Journal.begin(journalOf(sides, options.journal), sides, plan, {
      channel: channel.dir,
      tuning: options,
    })
    await makeReady(sides, plan, report, journal, deadline)
    const tookMs = await copyOrUndo(sides, plan, channel.dir, report, journal, deadline)
    const moved = await move(sides, plan, channel, report, journal, deadline)
    const warn = (message: string) => report.warn(message)
    await journal.enter('finish', downtimeRecord(moved)).catch((error: Error) => warn(error.message))
    const finished = await finish(sides, plan, report)
    const vm = moved.status === 'running' ? 'running' : 'stopped'
    await journal.close('done', { vm, error: null, downtimeMs: moved.downtime?.totalMs ?? null }, warn)
    return migratedVm(sides, plan, moved, finished, copiedStorage(plan, tookMs, moved.copies))
  } catch (error) {
    // By the socket in it recover tells whose NBD server the destination has.
    const isUnknown = error instanceof VblkError && error.exitCode === ExitCode.Unknown
    isLeft = isUnknown && copiedDisks(plan.disks).length > 0
    throw error
  } finally {
    if (!isLeft) await channel.remove()
  }
}

/** Copies the storage that goes along; a failure leaves both sides as they were. */
async function copyOrUndo(
  sides: Sides,
  plan: Plan,
  channel: string,
  report: Report,
  journal: Journal,
  deadline: Deadline,
): Promise<ReadonlyMap<number, number>> {
  let tookMs: ReadonlyMap<number, number> = new Map()
  await orUndo(sides, plan, report, journal, deadline, async () => {
    const { bandwidth } = plan
    tookMs = await copyStorage(sides, plan, { channel, bandwidth, report, signal: deadline.signal })
  })
  return tookMs
}
