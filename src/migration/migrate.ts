// SPDX-License-Identifier: GPL-2.0-or-later

import type { DiskInfo } from '../disk/info.ts'
import { ExitCode, VblkError } from '../errors.ts'
import { type MigrationInfo, QmpCommandError, QmpConnectionLostError, type RunState } from '../qmp/index.ts'
import { findProcess } from '../vm/qemu-process.ts'
import { Channel, exampleUri } from './channel.ts'
import { type SideCommand, send, sendAll } from './commands.ts'
import { Deadline } from './deadline.ts'
import { EventTime, millisecondsBetween } from './downtime.ts'
import { finish } from './finish.ts'
import { Journal, requireNoOpenMigration } from './journal/journal.ts'
import type { MigrateOptions, Report, Sides } from './options.ts'
import { OutcomeUnknownError } from './outcome-unknown.ts'
import { listenCommands, type Plan, planCommands, type Remains, startCommand } from './plan.ts'
import { preflight } from './preflight.ts'
import { prepareDisk, removeDisk } from './prepare.ts'
import { type MigratedVm, migratedVm } from './result.ts'
import { rollBack } from './rollback.ts'
import { runDestination } from './run.ts'
import { awaitStatus } from './status.ts'
import { type Switchover, switchOver } from './switchover.ts'

export interface DryRun {
  dryRun: true
  vm: string
  destination: string
  /** What would be sent, in order, and to whom. */
  commands: SideCommand[]
}

/** What the checks before a migration have found good. */
export interface Preflight {
  vm: string
  destination: string
  /** Whether the VM runs, and would run at the destination. */
  running: boolean
  disks: {
    id: string | null
    datapath: DiskInfo['datapath']
    /** vblk would make it on the destination; else it is there. */
    made: boolean
  }[]
}

/** Makes every check that comes before a migration, and changes nothing. Throws what they throw. */
export async function checkMigration(sides: Sides, options: Omit<MigrateOptions, 'dryRun'>): Promise<Preflight> {
  const { wasRunning, disks } = await check(
    sides,
    { ...options, dryRun: true },
    new Deadline(options.timeoutMs, options.signal),
  )
  return {
    vm: sides.source.name,
    destination: sides.destination.name,
    running: wasRunning,
    disks: disks.map(({ source: { id, datapath }, preparation }) => ({
      id,
      datapath,
      made: preparation !== undefined,
    })),
  }
}

async function check(sides: Sides, options: MigrateOptions, deadline: Deadline): Promise<Plan> {
  return await options.report
    .step('checking source and destination', async () => {
      await requireNoOpenMigration(options.journal, sides)
      return await preflight(sides, { ...options, signal: deadline.signal })
    })
    .catch((error) => {
      throw deadline.explain(error)
    })
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

  const channel = await Channel.create(ownerOf(sides))
  const stopped = new EventTime(sides.source, 'STOP')
  const resumed = new EventTime(sides.destination, 'RESUME')
  try {
    const journal = await Journal.begin(options.journal, sides, plan, channel.dir)
    await prepare(sides, plan, channel.uri, report, journal, deadline)
    const switchover = await moveUntilNoReturn(sides, plan, channel.uri, report, journal, deadline)
    const warn = (message: string) => report.warn(message)
    await journal.enter('finish').catch((error: Error) => warn(error.message))
    const finished = await finish(sides, plan, report)
    const downtimeMs = plan.wasRunning ? millisecondsBetween(stopped.last, resumed.last) : null
    const vm = switchover.status === 'running' ? 'running' : 'stopped'
    await journal.close('done', { vm, error: null, downtimeMs }, warn)
    return migratedVm(sides, plan, switchover, downtimeMs, finished)
  } finally {
    stopped.close()
    resumed.close()
    await channel.remove()
  }
}

/** The user that the destination's QEMU runs as, if it is known: it makes the socket. */
function ownerOf({ destination }: Sides): { uid: number; gid: number } | undefined {
  const process = findProcess(destination)
  return 'pid' in process ? process : undefined
}

/** Brings the destination to where it takes the stream. A failure leaves both sides as they were. */
async function prepare(
  sides: Sides,
  plan: Plan,
  uri: string,
  report: Report,
  journal: Journal,
  deadline: Deadline,
): Promise<void> {
  const { signal } = deadline
  try {
    for (const disk of plan.disks) {
      const { preparation } = disk
      if (preparation === undefined) continue
      await report.step(`making ${disk.name} on the destination`, () => prepareDisk(sides, disk, preparation, signal))
    }
    await sendAll(sides, plan.settings.apply, { signal })
    await sendAll(sides, listenCommands(uri), { signal })
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
  const { source, destination } = sides
  const failures: string[] = []
  const attempt = (work: Promise<void>) => work.catch((error) => void failures.push((error as Error).message))
  await report.step('removing what was made on the destination', async () => {
    for (const command of plan.settings.restore) {
      if (sides[command.side].qmp.runstate === 'running') await attempt(send(sides, command))
    }
    for (const { preparation } of plan.disks.toReversed()) {
      if (preparation !== undefined && destination.qmp.runstate === 'running') {
        await attempt(removeDisk(destination, preparation.id))
      }
    }
  })
  if (failures.length === 0 || source.qmp.runstate !== 'running') {
    const vm = source.qmp.runstate !== 'running' ? 'lost' : plan.wasRunning ? 'running' : 'stopped'
    const error = (cause as Error).message
    await journal.close('rolled-back', { vm, error, downtimeMs: null }, (message) => report.warn(message))
    return
  }
  throw new OutcomeUnknownError(
    `${(cause as Error).message}; undoing what had been done failed: ${failures.join('; ')}`,
    `the VM is where it was; end the QEMU of ${destination.name} and start a new one`,
    cause,
  )
}

function destinationLost(cause: Error): VblkError {
  return new VblkError(
    'DESTINATION_LOST',
    ExitCode.RolledBack,
    `the destination went away: ${cause.message}; the VM is untouched`,
    { cause },
  )
}

/** Moves the VM, and lets it run. A failure before that is rolled back. */
async function moveUntilNoReturn(
  sides: Sides,
  plan: Plan,
  uri: string,
  report: Report,
  journal: Journal,
  deadline: Deadline,
): Promise<Switchover & { status: RunState }> {
  const { signal } = deadline
  try {
    await journal.enter('copy')
    await send(sides, startCommand(uri), { signal })
    await report.step('copying memory', ({ detail }) =>
      awaitStatus(sides.source, 'pre-switchover', { signal, watch: (info) => detail(progressOf(info)) }),
    )
    return await report.step('switching over', async () => {
      const switchover = await switchOver(sides, plan, report, journal, signal)
      signal.throwIfAborted()
      await journal.enterCommit(switchover.disks)
      return { ...switchover, status: plan.wasRunning ? await runDestination(sides) : 'paused' }
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
