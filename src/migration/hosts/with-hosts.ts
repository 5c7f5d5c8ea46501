// SPDX-License-Identifier: GPL-2.0-or-later
// A migration between two hosts, found again from either.

import { ExitCode, VblkError } from '../../errors.ts'
import { parseAddress } from '../../vm/address.ts'
import { openVm, type Vm } from '../../vm/vm.ts'
import { type FindOptions, type Found, findHere } from '../find-sides.ts'
import { isSameProcess } from '../journal/process-identity.ts'
import { formatRecord, isOpen, type MigrationRecord, parseRecord } from '../journal/record.ts'
import type { JournalStore } from '../journal/store.ts'
import { requireNotUnderWay } from '../journal/summary.ts'
import type { Side } from '../options.ts'
import { OutcomeUnknownError } from '../outcome-unknown.ts'
import { BothStores } from './both-stores.ts'
import { setHost } from './host-of.ts'
import { isThisHost } from './machine.ts'
import { OtherHost, type SshAddress, sshAddress } from './other-host.ts'

export interface HostsOptions extends FindOptions {
  journal: JournalStore
  /** How this host reaches the other one, if not as the record says. */
  peer?: string | undefined
  /** Sides whose QEMU is certainly gone: the name of it or of its host. */
  fenced: readonly string[]
  /** Instead of OtherHost.open. */
  openHost?: typeof OtherHost.open
}

type Hosts = NonNullable<MigrationRecord['hosts']>
/** A record of a migration between two hosts. */
export type RecordOfTwo = MigrationRecord & { hosts: Hosts }

export const isOfTwo = (record: MigrationRecord): record is RecordOfTwo => record.hosts !== undefined

/** The migration, by what both hosts know of it. */
export interface OfTwo {
  /** The newer one of both hosts' records. */
  record: MigrationRecord
  /** Writes to both hosts, or to this one alone if the other is out of reach. */
  journal: JournalStore
  found: Record<Side, Found>
}

/**
 * Looks for both QEMUs of a migration between this host and another, locks those that are there, brings both journals to the
 * newer state of the two, and lets go of all afterwards. Throws VblkError: exit code 5 for a migration of other hosts, 8 for
 * journals that contradict each other, 9 while a vblk works on it.
 */
export async function withHosts<T>(
  ours: RecordOfTwo,
  options: HostsOptions,
  use: (both: OfTwo) => Promise<T>,
): Promise<T> {
  const here = sideHere(ours)
  const there = here === 'source' ? 'destination' : 'source'
  const address = peerAddress(ours, there, options.peer)
  const host = await reach(ours, there, address, options)
  const close: (() => Promise<void> | void)[] = []
  try {
    if (typeof host === 'string') {
      const found = await findHere(pathHere(ours, here), options, close)
      const record = await again(ours, options.journal)
      const { name } = ours[there]
      const isFenced = [name, ours.hosts[there].name, address?.destination].some((each) => isIn(options.fenced, each))
      const away: Found = isFenced ? 'gone' : { unreachable: host }
      const decided: MigrationRecord = isFenced && isOpen(record) ? { ...record, decidedWithout: there } : record
      return await use({ record: decided, journal: options.journal, found: sides(here, found, away) })
    }
    close.push(() => host.close())
    const journal = new BothStores(options.journal, host)
    const before = await reconcile(ours, host, journal)
    if (isOpen(before)) await requireNotAtWork(before, there, host)
    const found = await findHere(pathHere(before, here), options, close)
    const away = await findThere(before, there, host, { ...host.address, path: pathOf(before, there) }, options, close)
    const record = await reconcile(await again(before, options.journal), host, journal)
    return await use({ record, journal, found: sides(here, found, away) })
  } finally {
    for (const each of close.reverse()) await each()
  }
}

/** Another command may have come first, and the locks are ours only now. */
const again = async (record: MigrationRecord, journal: JournalStore): Promise<MigrationRecord> =>
  (await journal.list()).find(({ id }) => id === record.id) ?? record

const isIn = (names: readonly string[], name: string | undefined) => name !== undefined && names.includes(name)

const sides = (here: Side, found: Found, away: Found): Record<Side, Found> =>
  here === 'source' ? { source: found, destination: away } : { source: away, destination: found }

function sideHere({ id, hosts }: RecordOfTwo): Side {
  const side = (['source', 'destination'] as const).find((each) => isThisHost(hosts[each]))
  if (side !== undefined) return side
  throw new VblkError('NOT_OF_THIS_HOST', ExitCode.Refused, `migration ${id} is not between this host and another`, {
    hint: `it was between ${hosts.source.name} and ${hosts.destination.name}`,
  })
}

/** The path of a side's monitor on its own host. */
function pathOf(record: MigrationRecord, side: Side): string {
  const address = parseAddress(record[side].name)
  if (address?.kind === 'ssh' || address?.kind === 'unix') return address.path
  throw new VblkError(
    'JOURNAL_UNTRUSTED',
    ExitCode.Unknown,
    `migration ${record.id}: ${record[side].name} is no socket`,
  )
}

const pathHere = (record: MigrationRecord, side: Side) => ({ ...record[side], name: pathOf(record, side) })

function peerAddress(record: RecordOfTwo, there: Side, peer: string | undefined): SshAddress | undefined {
  if (peer === undefined) return sshAddress(record[there].name)
  const address = sshAddress(`${peer.startsWith('ssh://') ? '' : 'ssh://'}${peer}${pathOf(record, there)}`)
  if (address !== undefined) return address
  throw new VblkError('BAD_ADDRESS', ExitCode.Usage, `'${peer}' is no host like [USER@]HOST[:PORT]`)
}

/** The other host's vblk, or why it can't be asked. */
async function reach(
  { hosts }: RecordOfTwo,
  there: Side,
  address: SshAddress | undefined,
  { signal, openHost = OtherHost.open }: HostsOptions,
): Promise<OtherHost | string> {
  const { name } = hosts[there]
  if (address === undefined) return `it is on ${name}, and --peer does not say how to reach that host`
  try {
    const host = await openHost(address, { signal })
    if (host.machine === hosts[there].machine) return host
    await host.close()
    return `${address.destination} is not the host it was`
  } catch (error) {
    if (signal?.aborted) throw error
    return (error as Error).message
  }
}

/** The newer record of the two, on both hosts. A record only grows, so one must be the beginning of the other. */
async function reconcile(ours: MigrationRecord, host: OtherHost, journal: BothStores): Promise<MigrationRecord> {
  const text = await host.ask('record', { id: ours.id })
  const theirs = text === null ? undefined : parseRecord(text)
  if (theirs !== undefined && 'fault' in theirs) throw contradiction(ours, host, theirs.fault)
  const newer = theirs === undefined ? ours : (newerOf(ours, theirs) ?? decidedOf(ours, theirs))
  if (newer === undefined)
    throw contradiction(ours, host, `it is in phase ${theirs?.phase} there, and not after this one`)
  const isOnBoth = theirs !== undefined && formatRecord(ours) === formatRecord(theirs)
  if (!isOnBoth) await journal.write(newer)
  return newer
}

/** Undefined if neither record has grown from the other. */
export function newerOf(a: MigrationRecord, b: MigrationRecord): MigrationRecord | undefined {
  const [longer, shorter] = a.entered.length >= b.entered.length ? [a, b] : [b, a]
  if (!isSameMigration(a, b)) return undefined
  const grown = shorter.entered.every(
    ({ phase, at }, index) => longer.entered[index]?.phase === phase && longer.entered[index]?.at === at,
  )
  return grown ? longer : undefined
}

/**
 * What a host has decided on which the other was vouched to be gone: that one may have been told of one phase more before it was lost.
 * Undefined if neither has, or each without the other.
 */
export function decidedOf(a: MigrationRecord, b: MigrationRecord): MigrationRecord | undefined {
  if ((a.decidedWithout === undefined) === (b.decidedWithout === undefined) || !isSameMigration(a, b)) return undefined
  return a.decidedWithout === undefined ? b : a
}

const isSameMigration = (a: MigrationRecord, b: MigrationRecord): boolean => {
  const [one, two] = [a, b].map(({ id, source, destination, hosts, wasRunning }) =>
    JSON.stringify([id, source, destination, hosts, wasRunning]),
  )
  return one === two
}

function contradiction({ id, phase }: MigrationRecord, host: OtherHost, why: string): OutcomeUnknownError {
  return new OutcomeUnknownError(
    `migration ${id}: the journals of the two hosts contradict each other: here it is in phase ${phase}; on ${host.name}: ${why}`,
    'look which QEMU may have the disks: compare "vblk migrate history --json" of both hosts',
    undefined,
  )
}

/** The vblk that began it may be at work on the other host. */
async function requireNotAtWork(record: MigrationRecord, there: Side, host: OtherHost): Promise<void> {
  if (there === 'destination') {
    requireNotUnderWay(record)
    return
  }
  if (record.coordinator === null || (await host.ask('ended', { process: record.coordinator }))) return
  throw new VblkError('MIGRATION_ACTIVE', ExitCode.Busy, `migration ${record.id} is under way on ${host.name}`, {
    hint: `wait for its end, or on ${host.name}: vblk migrate abort ${record.id}`,
  })
}

async function findThere(
  record: MigrationRecord,
  side: Side,
  host: OtherHost,
  address: SshAddress,
  options: HostsOptions,
  close: (() => Promise<void> | void)[],
): Promise<Found> {
  const { process } = record[side]
  if (process !== null && (await host.ask('ended', { process }))) return 'gone'
  const vm = await openThere(address, host, process, options).catch((error: VblkError) => {
    if (error.exitCode === ExitCode.Busy) throw error
    return error.message
  })
  if (typeof vm === 'string') return { unreachable: vm }
  close.push(() => vm.qmp.close())
  return { vm }
}

async function openThere(
  { destination, port, path }: SshAddress,
  host: OtherHost,
  recorded: MigrationRecord['source']['process'],
  options: HostsOptions,
): Promise<Vm | string> {
  const { process, unlocked } = await host.ask('look', { path })
  if (!isSameProcess(process, recorded)) return `another process serves ${path} now`
  if (unlocked !== null) options.warn(unlocked)
  const vm = await (options.openVm ?? openVm)(
    `ssh://${destination}${port === undefined ? '' : `:${port}`}${path}`,
    options,
  )
  setHost(vm, { host, process })
  return vm
}
