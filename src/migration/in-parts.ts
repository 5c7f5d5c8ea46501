// SPDX-License-Identifier: GPL-2.0-or-later
// A migration by several commands, for scripts that do things of their own in between.

import type { DiskInfo } from '../disk/info.ts'
import { ExitCode, VblkError } from '../errors.ts'
import { exampleUri } from './channel.ts'
import { check, type Preflight, preflightOf } from './check.ts'
import { createChannel } from './create-channel.ts'
import { Deadline } from './deadline.ts'
import { endSource, type Finish, readDisks } from './finish.ts'
import { journalOf } from './hosts/both-stores.ts'
import { findOpenMigration, isOfSides, Journal } from './journal/journal.ts'
import type { MigrationRecord, Phase } from './journal/record.ts'
import { requireNotUnderWay } from './journal/summary.ts'
import { makeReady, orUndo } from './make-ready.ts'
import type { DryRun } from './migrate.ts'
import { downtimeRecord, move } from './move.ts'
import type { MigrateOptions, Sides } from './options.ts'
import { planCommands, type ReadyPlan } from './plan.ts'
import { remainsOf } from './remains.ts'
import { type MigratedVm, migratedVm } from './result.ts'

export interface Prepared extends Preflight {
  /** The migration's id. */
  migration: string
  /** False if it was prepared already. */
  changed: boolean
}

/**
 * Brings both QEMUs to where the VM can be moved: disks made on the destination, settings set. Done already if the open
 * migration of both is in this phase. A failure leaves both as they were.
 */
export async function prepareMigration(sides: Sides, options: MigrateOptions): Promise<Prepared | DryRun> {
  const { journal: store, report } = options
  const deadline = new Deadline(options.timeoutMs, options.signal)
  const open = await findOpenMigration(store, sides)
  const own = open?.phase === 'prepared' && isOfSides(open, sides) ? open : undefined
  const plan = await check(sides, own === undefined ? options : { ...options, ...own.tuning }, deadline, own?.id)
  const found = preflightOf(sides, plan)
  if (options.dryRun) {
    const { vm, destination } = found
    return { dryRun: true, vm, destination, commands: own === undefined ? planCommands(plan, exampleUri) : [] }
  }
  if (own !== undefined) {
    const made = new Set(own.disks.filter((disk) => disk.made).map(({ id }) => id))
    const disks = found.disks.map((disk) => ({ ...disk, made: made.has(disk.id) }))
    return { ...found, disks, migration: own.id, changed: false }
  }
  const journal = await Journal.begin(journalOf(sides, store), sides, plan, { channel: '', tuning: options })
  await makeReady(sides, plan, report, journal, deadline)
  await orUndo(sides, plan, report, journal, deadline, () => journal.enter('prepared'))
  return { ...found, migration: journal.record.id, changed: true }
}

type RunOptions = Omit<MigrateOptions, 'dryRun' | 'keepSource'>

/**
 * Moves the VM of a prepared migration, and leaves the source's QEMU there, stopped. All checks are made again: things may
 * have changed since. Whatever fails is undone or rolled back, as in migrate().
 */
export async function runMigration(record: MigrationRecord, sides: Sides, options: RunOptions): Promise<MigratedVm> {
  const { report } = options
  const deadline = new Deadline(options.timeoutMs, options.signal)
  const again = { ...options, ...record.tuning, dryRun: false, keepSource: false }
  const plan = await check(sides, again, deadline, record.id)
  const { settings } = remainsOf(record)
  const ready: ReadyPlan = {
    ...plan,
    disks: plan.disks.map((disk) => ({ ...disk, preparation: disk.preparation ?? preparationOf(record, disk.source) })),
    // What somebody has changed since, and then what was changed before that.
    settings: { restore: [...plan.settings.restore, ...settings.restore] },
  }
  const channel = await createChannel(sides)
  try {
    const journal = new Journal(options.journal, record)
    await journal.prepareAgain(ready, channel.dir)
    await makeReady(sides, plan, report, journal, deadline, ready)
    const moved = await move(sides, ready, channel, report, journal, deadline)
    await journal.enter('moved', downtimeRecord(moved)).catch((error: Error) => report.warn(error.message))
    const disks = await readDisks(sides.destination, ready, report)
    return migratedVm(sides, ready, moved, { disks, source: 'kept' })
  } finally {
    await channel.remove()
  }
}

function preparationOf({ disks }: MigrationRecord, { id }: DiskInfo): { id: string } | undefined {
  return id !== null && disks.some((disk) => disk.made && disk.id === id) ? { id } : undefined
}

export interface FinishOptions extends Pick<MigrateOptions, 'journal' | 'report'> {
  keepSource: boolean
}

/** Puts the settings back and ends the source's QEMU, of a migration whose VM has moved. */
export async function finishMigration(
  record: MigrationRecord,
  sides: Sides,
  { journal: store, report, keepSource }: FinishOptions,
): Promise<Finish['source']> {
  const journal = new Journal(store, record)
  const { running } = await sides.destination.qmp.execute('query-status')
  await journal.finishAnothers(keepSource)
  const plan = remainsOf(journal.record)
  const source = await report.step('ending the source', () => endSource(sides, plan, report))
  const outcome = { vm: running ? 'running' : 'stopped', error: null, downtimeMs: record.downtimeMs ?? null } as const
  await journal.close('done', outcome, (message) => report.warn(message))
  return source
}

/**
 * Whether a migration is past `waiting`, so that there is nothing to do for the command that it waits for there. Throws
 * VblkError where it isn't there yet or takes another way: exit codes 5, 8 and 9.
 */
export function isPast(record: MigrationRecord, waiting: 'prepared' | 'moved'): boolean {
  const { id, phase } = record
  const past: Phase[] = waiting === 'prepared' ? ['moved', 'done'] : ['done']
  if (phase === waiting) return false
  if (past.includes(phase)) return true
  if (phase === 'rolled-back') {
    throw new VblkError('MIGRATION_ROLLED_BACK', ExitCode.Refused, `migration ${id} was rolled back`, {
      hint: 'begin a new one: vblk migrate prepare',
    })
  }
  if (phase === 'prepared') {
    throw new VblkError('MIGRATION_NOT_RUN', ExitCode.Refused, `the VM of migration ${id} has not moved yet`, {
      hint: `vblk migrate run ${id}`,
    })
  }
  requireNotUnderWay(record)
  throw new VblkError('MIGRATION_LEFT', ExitCode.Unknown, `migration ${id} was left in phase ${phase}`, {
    hint: `vblk migrate recover ${id}`,
  })
}
