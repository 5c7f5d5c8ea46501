// SPDX-License-Identifier: GPL-2.0-or-later

import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { ExitCode, VblkError } from '../../errors.ts'
import type { Vm } from '../../vm/vm.ts'
import { hostOf } from '../hosts/host-of.ts'
import { isThisHost, machineId } from '../hosts/machine.ts'
import type { Sides, Tuning } from '../options.ts'
import type { Plan, ReadyPlan } from '../plan.ts'
import type { StoppedDisk } from '../standstill.ts'
import { partyName } from './party-name.ts'
import { identify, identifyVm, isSameProcess } from './process-identity.ts'
import { isOpen, isWaiting, type MigrationRecord, type Party, type Phase } from './record.ts'
import type { JournalStore } from './store.ts'

/**
 * Who owns the disks from the moment that a phase is entered. The token changes hands with `commit`, before the destination
 * may run, or with `handover`, before a source in postcopy can't run any more. It comes back with `rollback`, when the
 * destination provably doesn't run.
 */
const owners: Partial<Record<Phase, MigrationRecord['owner']>> = {
  prepare: 'source',
  prepared: 'source',
  copy: 'source',
  switchover: 'source',
  handover: 'destination',
  postcopy: 'destination',
  commit: 'destination',
  moved: 'destination',
  finish: 'destination',
  rollback: 'source',
}

/** The journal of one migration: says what is about to be done, before it is. */
export class Journal {
  readonly #store: JournalStore
  #record: MigrationRecord

  constructor(store: JournalStore, record: MigrationRecord) {
    this.#store = store
    this.#record = record
  }

  /** Enters the phase `prepare` of a new migration. Throws VblkError (exit code 4) when it can't be written. */
  static async begin(
    store: JournalStore,
    sides: Sides,
    plan: Plan,
    { channel, tuning }: { channel: string; tuning: Tuning },
  ): Promise<Journal> {
    const at = new Date().toISOString()
    const record: MigrationRecord = {
      format: 1,
      id: randomUUID(),
      source: partyOf(sides.source),
      destination: partyOf(sides.destination),
      ...hostsOf(sides),
      coordinator: identify(process.pid) ?? null,
      phase: 'prepare',
      entered: [{ phase: 'prepare', at }],
      owner: 'source',
      wasRunning: plan.wasRunning,
      keepSource: plan.keepSource,
      disks: plan.disks.map(diskRecord),
      // Settings are the only commands that are ever restored; the record's schema knows them one by one.
      restore: plan.settings.restore as MigrationRecord['restore'],
      channel,
      tuning: definedOnly(tuning),
      outcome: null,
    }
    const journal = new Journal(store, record)
    try {
      await store.write(record)
    } catch (error) {
      // One of two hosts may have it: there it must not stay open.
      if (record.hosts !== undefined) {
        const vm = plan.wasRunning ? 'running' : 'stopped'
        await journal.close('rolled-back', { vm, error: (error as Error).message, downtimeMs: null }, () => {})
      }
      throw error
    }
    await store.prune()
    return journal
  }

  get record(): MigrationRecord {
    return this.#record
  }

  /** Says that a phase begins; only then may anything be done that belongs to it. Throws what JournalStore.write throws. */
  async enter(
    phase: Phase,
    changes: Partial<
      Pick<
        MigrationRecord,
        | 'disks'
        | 'outcome'
        | 'owner'
        | 'channel'
        | 'restore'
        | 'coordinator'
        | 'downtimeMs'
        | 'downtimePhases'
        | 'keepSource'
      >
    > = {},
  ): Promise<void> {
    const entered = [...this.#record.entered, { phase, at: new Date().toISOString() }].slice(-64)
    // Kept even if the write fails: it may have reached the disk all the same.
    this.#record = { ...this.#record, owner: owners[phase] ?? this.#record.owner, ...changes, phase, entered }
    await this.#store.write(this.#record)
  }

  /** Goes on with a migration that another vblk has prepared, by what is planned now. */
  async prepareAgain({ disks, settings }: ReadyPlan, channel: string): Promise<void> {
    const restore = settings.restore as MigrationRecord['restore']
    const coordinator = identify(process.pid) ?? null
    await this.enter('prepare', { disks: disks.map(diskRecord), restore, channel, coordinator })
  }

  /** Goes on with a migration whose VM another vblk has moved. */
  async finishAnothers(keepSource: boolean): Promise<void> {
    const { hosts } = this.#record
    // A record names processes of the source's host only.
    const isHere = hosts === undefined || isThisHost(hosts.source)
    await this.enter('finish', { keepSource, ...(isHere && { coordinator: identify(process.pid) ?? null }) })
  }

  /** Says that the stream goes through another socket now. */
  async noteChannel(channel: string): Promise<void> {
    this.#record = { ...this.#record, channel }
    await this.#store.write(this.#record)
  }

  /** The phase that passes the disks on, with the write caches that the destination must show. */
  async passOn(phase: 'commit' | 'handover', saved: readonly StoppedDisk[]): Promise<void> {
    const disks = this.#record.disks.map((disk, index) => ({
      ...disk,
      writeCache: saved[index]?.writeCache ?? disk.writeCache,
    }))
    await this.enter(phase, { disks })
  }

  /**
   * Says how it has ended. A journal that can't be written any more is a warning: what it says last is still true, and
   * `recover` finds that there is nothing left to do.
   */
  async close(
    phase: 'done' | 'rolled-back',
    outcome: NonNullable<MigrationRecord['outcome']>,
    warn: (message: string) => void,
  ): Promise<void> {
    await this.enter(phase, { outcome }).catch((error: Error) => warn(`${error.message}; see: vblk migrate status`))
  }
}

function diskRecord({
  name,
  source,
  destination,
  preparation,
  copy,
}: ReadyPlan['disks'][number]): MigrationRecord['disks'][number] {
  return {
    name,
    id: source.id,
    bus: source.bus,
    addr: source.addr,
    file: source.file,
    sourcePath: source.path,
    destinationPath: destination.path,
    datapath: source.datapath,
    made: preparation !== undefined,
    writeCache: source.writeCache,
    ...(copy !== undefined && { copy }),
  }
}

/** The user's wishes of a tuning and nothing else, as a record has them. */
function definedOnly({
  downtimeLimitMs,
  bandwidth,
  autoConverge,
  multifdChannels,
  multifdCompression,
  postcopy,
  postcopyAfter,
  datapath,
}: Tuning): NonNullable<MigrationRecord['tuning']> {
  const channels = { multifdChannels, multifdCompression }
  const wishes = { downtimeLimitMs, bandwidth, autoConverge, ...channels, postcopy, postcopyAfter, datapath }
  return Object.fromEntries(Object.entries(wishes).filter(([, value]) => value !== undefined))
}

/** How a record names a QEMU. One process may serve the monitors of several, so the name counts as well. */
const partyOf = (vm: Vm): Party => ({
  name: partyName(vm.name),
  process: hostOf(vm)?.process ?? identifyVm(vm) ?? null,
})

/** Which hosts they are on, if on two; the vblk that writes this is on the source's. */
function hostsOf({ destination }: Sides): Pick<MigrationRecord, 'hosts'> {
  const there = hostOf(destination)
  if (there === undefined) return {}
  const { machine, name } = there.host
  return { hosts: { source: { machine: machineId(), name: hostname() }, destination: { machine, name } } }
}

/** The open migration of one of these QEMUs. */
export async function findOpenMigration(store: JournalStore, sides: Sides): Promise<MigrationRecord | undefined> {
  const here = [partyOf(sides.source), partyOf(sides.destination)]
  // On two hosts one QEMU has two names.
  const isHere = (party: Party, between: boolean) =>
    here.some((each) => isSameParty(each, party) || (between && isSameProcess(each.process, party.process)))
  return (await store.list()).find(
    (record) =>
      isOpen(record) && [record.source, record.destination].some((party) => isHere(party, record.hosts !== undefined)),
  )
}

/** Whether a migration is of these QEMUs, in this direction. */
export const isOfSides = ({ source, destination }: MigrationRecord, sides: Sides): boolean =>
  isSameParty(source, partyOf(sides.source)) && isSameParty(destination, partyOf(sides.destination))

const isSameParty = (a: Party, b: Party): boolean =>
  a.name === b.name && (isSameProcess(a.process, b.process) || (a.process ?? b.process) === null)

/** Throws VblkError (exit code 9) if a migration of one of these QEMUs, another than the one given, has not come to its end. */
export async function requireNoOpenMigration(store: JournalStore, sides: Sides, own?: string): Promise<void> {
  const open = await findOpenMigration(store, sides)
  if (open === undefined || open.id === own) return
  const where = isWaiting(open) ? 'waits in phase' : 'was left in phase'
  throw new VblkError(
    'MIGRATION_UNFINISHED',
    ExitCode.Busy,
    `migration ${open.id} of this VM ${where} ${open.phase}; its ${open.owner} owns the disks`,
    { hint: nextCommand(open) },
  )
}

function nextCommand({ id, phase, hosts }: MigrationRecord): string {
  const command = phase === 'prepared' ? 'run' : phase === 'moved' ? 'finish' : 'recover'
  const where = hosts === undefined || isThisHost(hosts.source) ? '' : `on ${hosts.source.name}: `
  return `${where}vblk migrate ${command} ${id}`
}
