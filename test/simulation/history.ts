// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../../src/errors.ts'
import type { Found } from '../../src/migration/find-sides.ts'
import { finishMigration, prepareMigration, runMigration } from '../../src/migration/in-parts.ts'
import { isWaiting, type MigrationRecord } from '../../src/migration/journal/record.ts'
import { migrate } from '../../src/migration/migrate.ts'
import type { MigrateOptions, Report, Sides } from '../../src/migration/options.ts'
import { recover } from '../../src/migration/recover.ts'
import { QmpClient } from '../../src/qmp/index.ts'
import type { Vm } from '../../src/vm/vm.ts'
import { diskBytes, type QemuModel } from './qemu.ts'
import { emptyImage } from './storage.ts'
import { type Circumstances, type Fault, World } from './world.ts'

/** One migration with its faults, and what recover made of it. */
export interface History {
  faults: Fault[]
  /** All commands and journal writes, in order; those of recover come last. */
  moments: string[]
  /** What must never happen, and did. */
  violations: string[]
  /** To understand it by. */
  happened: string[]
}

export const reportTo = ({ warnings }: World): Report => ({
  step: (_title, run) => run({ detail: () => {} }),
  warn: (message) => void warnings.push(message),
})

export async function connect(qemu: QemuModel): Promise<Vm> {
  const client = await QmpClient.connect({ path: qemu.name, open: async () => qemu.connect() })
  return { name: qemu.name, qmp: client, elsewhere: 'it is simulated' }
}

/** What a disk is copied to; its contents are the model's matter. */
let copy: string | undefined

/** Runs the coordinator against a world, then recover until nothing is open, and says what was violated. */
export async function history(faults: Fault[], circumstances: Circumstances = {}): Promise<History> {
  const world = new World(faults, circumstances)
  const before = world.source.settings
  const there = world.destination.settings
  const options = {
    timeoutMs: 600_000,
    signal: world.interruption.signal,
    report: reportTo(world),
    journal: world.newStore(),
    dryRun: false,
    keepSource: false,
    bandwidth: 1_000_000,
    ...(circumstances.postcopy && { postcopy: true, postcopyAfter: 0 }),
    ...(circumstances.copyStorage && { copyStorage: new Map([['d1', imageForCopies()]]) }),
  }
  const sides: Sides = { source: await connect(world.source), destination: await connect(world.destination) }
  const said = await outcome(world, (circumstances.inParts ? moveInParts : migrate)(sides, options))
  world.happened.push(`vblk says: ${said}`)
  await drop(sides)
  checkSaid(world, said, { before, there })
  for (let attempt = 0; world.open !== undefined; attempt++) {
    if (attempt === 5) {
      world.violations.push(`recover comes to no end: phase ${world.open.phase}`)
      break
    }
    await recoverOnce(world)
  }
  checkEnd(world, { before, there })
  world.source.die()
  world.destination.die()
  return { faults, moments: world.moments, violations: world.violations, happened: world.happened }
}

function imageForCopies(): string {
  copy ??= emptyImage(diskBytes)
  return copy
}

async function moveInParts(sides: Sides, options: MigrateOptions): Promise<void> {
  await prepareMigration(sides, options)
  await runMigration(requireRecord(await options.journal.list()), sides, options)
  const record = requireRecord(await options.journal.list())
  // As the command: what the journal was not told, recover finds out.
  if (record.phase !== 'moved') throw new VblkError('LEFT', ExitCode.Unknown, `the journal says ${record.phase}`)
  await finishMigration(record, sides, options)
}

function requireRecord([record]: MigrationRecord[]): MigrationRecord {
  if (record === undefined) throw new Error('the journal is empty')
  return record
}

export type Said = 'done' | 'vblk died' | ExitCode

export async function outcome(world: World, work: Promise<unknown>): Promise<Said> {
  const ended = work.then(
    () => 'done' as const,
    (error) => {
      if (!(error instanceof VblkError)) {
        world.violations.push(`a bug: ${(error as Error).stack ?? error}`)
        return ExitCode.Bug
      }
      world.happened.push(`error: ${error.message}`)
      return error.exitCode
    },
  )
  return await Promise.race([ended, world.vblkDied])
}

export async function drop(sides: Partial<Sides>): Promise<void> {
  for (const vm of Object.values(sides)) await vm.qmp.close().catch(() => {})
}

async function recoverOnce(world: World): Promise<void> {
  world.startVblk()
  const sides: Partial<Sides> = {}
  const found = {} as Record<'source' | 'destination', Found>
  for (const side of ['source', 'destination'] as const) {
    const qemu = world[side]
    if (!qemu.alive) found[side] = 'gone'
    else {
      const vm = await connect(qemu)
      sides[side] = vm
      found[side] = { vm }
    }
  }
  const record = world.open
  if (record === undefined) return
  const options = { journal: world.newStore(), report: reportTo(world), found, destinationRan: undefined }
  let said = await outcome(world, recover(record, options))
  const mayHaveRun = record.phase === 'commit' || record.phase === 'postcopy'
  if (said === ExitCode.Unknown && mayHaveRun && !world.destination.alive) {
    // It asks whether the VM ran there, and is told the truth.
    const again = { ...options, destinationRan: world.destinationRan }
    said = await outcome(world, recover(world.open ?? record, again))
  }
  world.happened.push(`recover says: ${said}`)
  await drop(sides)
}

export interface Settings {
  before: string
  there: string
}

/** What vblk has said must be so. */
export function checkSaid(world: World, said: Said, settings: Settings): void {
  const { source, destination, violations } = world
  if (said === 'done' && destination.alive && !hasVm(destination, world))
    violations.push('it said done, and the VM is not there')
  const isOpen: Said[] = ['done', 'vblk died', ExitCode.Unknown, ExitCode.TimedOut, ExitCode.Bug]
  if (isOpen.includes(said)) return
  // The part that failed has changed nothing, and may be repeated.
  if (world.open !== undefined && isWaiting(world.open)) return
  const isSaid = world.warnings.some((text) => text.endsWith('see: vblk migrate status'))
  if (world.open !== undefined && !isSaid) violations.push(`exit code ${said}, and the journal is open`)
  if (source.alive) checkAtSource(world, settings)
  if (destination.isRunning) violations.push(`exit code ${said}, and the destination runs`)
}

function hasVm(qemu: QemuModel, { saved }: World): boolean {
  return saved !== undefined && (qemu.runstate === 'running' || qemu.runstate === 'paused')
}

function checkAtSource(world: World, { before }: Settings): void {
  const { source, violations } = world
  const wasRunning = world.records.at(-1)?.wasRunning
  if (wasRunning === true && !source.isRunning)
    violations.push(`the VM is back at the source and does not run: ${source.runstate}`)
  // A VM that was migrated stays in postmigrate until it runs: QEMU knows no way back to paused.
  if (wasRunning === false && source.runstate !== 'paused' && source.runstate !== 'postmigrate')
    violations.push(`the VM was paused and is ${source.runstate}`)
  if (world.destination.alive && world.destination.migration === 'completed')
    violations.push('the source goes on, and the destination lives and has all of the VM')
  if (source.disk?.holdsImage !== true) violations.push('the VM is back at the source, without its image')
  if (!source.storage.hasNothing) violations.push('a job or node of a copy is left on the source')
  if (source.settings !== before) violations.push("the source's settings are not what they were")
}

/** Once nothing is open: one side has the VM, or it is lost because those who had it have died. */
export function checkEnd(world: World, settings: Settings): void {
  const { source, destination, violations } = world
  const record = world.records.at(-1)
  if (record === undefined || record.outcome === null) return
  const { owner, outcome: end } = record
  if (end.vm === 'lost') {
    const isPassedOn = source.migration.startsWith('postcopy')
    if (source.alive && !world.destinationRan && !isPassedOn)
      violations.push('the VM is called lost, and the source has it')
    if (destination.alive && destination.migration === 'completed')
      violations.push('the VM is called lost, and the destination has it')
    if (destination.alive && destination.runstate === 'running') violations.push('the VM is called lost, and runs')
    return
  }
  if (owner === 'source') {
    if (source.alive) checkAtSource(world, settings)
    if (destination.isRunning) violations.push('the source owns the disks, and the destination runs')
    if (destination.alive && destination.migration === 'none') {
      if (!destination.storage.hasNothing) violations.push('an NBD server is left on the destination')
      if (destination.disk !== undefined || destination.nodes.length > 0)
        violations.push('something is left on the destination')
      if (destination.settings !== settings.there) violations.push("the destination's settings are not what they were")
    }
    return
  }
  if (source.isRunning) violations.push('the destination owns the disks, and the source runs')
  if (!destination.alive) return
  if (record.wasRunning && !destination.isRunning)
    violations.push(`the VM has moved and does not run: ${destination.runstate}`)
  const isSaid = world.warnings.some((text) => text.includes('the VM has moved, but'))
  if (destination.settings !== settings.there && !isSaid)
    violations.push("the destination's settings are not what they were")
}
