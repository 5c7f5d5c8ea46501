// SPDX-License-Identifier: GPL-2.0-or-later
// A migration between two hosts: each has a journal that a write may reach or not, either may be lost, and the way between them cut. Then
// recover is run on one of them, with the other out of reach if it is; then with what the user would say or mend.

import { writeFileSync } from 'node:fs'
import { ExitCode, VblkError } from '../../src/errors.ts'
import { setHost } from '../../src/migration/hosts/host-of.ts'
import { endLeftDestination } from '../../src/migration/hosts/left-destination.ts'
import { type OtherHost, sshAddress } from '../../src/migration/hosts/other-host.ts'
import type { Operation } from '../../src/migration/hosts/protocol.ts'
import { thisHost } from '../../src/migration/hosts/this-host.ts'
import { type HostsOptions, isOfTwo } from '../../src/migration/hosts/with-hosts.ts'
import { formatRecord, isOpen, type ProcessIdentity, parseRecord } from '../../src/migration/journal/record.ts'
import { migrate } from '../../src/migration/migrate.ts'
import type { Side, Sides } from '../../src/migration/options.ts'
import { recover } from '../../src/migration/recover.ts'
import { withMigration } from '../../src/migration/with-migration.ts'
import type { Vm } from '../../src/vm/vm.ts'
import { checkEnd, checkSaid, connect, drop, type History, outcome, reportTo, type Said } from './history.ts'
import { type Circumstances, type Fault, unreachable, World } from './world.ts'

const other = (side: Side): Side => (side === 'source' ? 'destination' : 'source')
const machines = { source: '1'.repeat(32), destination: '2'.repeat(32) }
/** Numbers that no process has. */
const pids = { source: 5_000_001, destination: 5_000_002 }
const sshName = (side: Side) => `ssh://${side}/sim/${side}`
const disk = {
  kind: 'block',
  sizeBytes: 1 << 20,
  sectorBytes: 512,
  readOnly: false,
  id: 'uuid.1',
  content: [],
} as const

/** As a host sees its own processes. */
function identifyAt(world: World, side: Side, pid: number): ProcessIdentity | undefined {
  const boot = `${side} ${world.hosts[side].boots}`
  if (pid === process.pid && world.vblkAt === side) return { pid, startedAt: `${world.lives}`, boot }
  return pid === pids[side] && world[side].alive ? { pid, startedAt: '0', boot } : undefined
}

const hasEndedAt = (world: World, side: Side, process_: ProcessIdentity) =>
  JSON.stringify(identifyAt(world, side, process_.pid)) !== JSON.stringify(process_)

/** The vblk of a host, as another one's hears it. */
function hostOfSide(world: World, side: Side): OtherHost {
  const store = world.newStore(side)
  const answers: Partial<Record<Operation, (args: never) => unknown>> = {
    look: () => {
      const found = identifyAt(world, side, pids[side])
      if (found === undefined) throw new VblkError('NO_SUCH_SOCKET', ExitCode.NotFound, 'nobody listens on it')
      return { process: found, unlocked: null }
    },
    ended: ({ process: recorded }: { process: ProcessIdentity }) => hasEndedAt(world, side, recorded),
    awaitEnd: ({ process: recorded }: { process: ProcessIdentity }) => hasEndedAt(world, side, recorded),
    fdinfo: () => [],
    disk: () => disk,
    channel: () => ({ path: '/sim/there/migrate.sock' }),
    write: async ({ record }: { record: string }) => {
      const parsed = parseRecord(record)
      if ('fault' in parsed) throw new Error(parsed.fault)
      await store.write(parsed)
      return null
    },
    record: () => {
      const [found] = world.recordsOf(side)
      return found === undefined ? null : formatRecord(found)
    },
    open: () => world.recordsOf(side).find(isOpen)?.id ?? null,
  }
  const host: Pick<OtherHost, 'address' | 'machine' | 'name' | 'ask' | 'forward' | 'close'> = {
    address: sshAddress(sshName(side)) as OtherHost['address'],
    machine: machines[side],
    name: side,
    ask: async (operation, args) => {
      // A write is a moment of its own, and says for itself what becomes of it.
      if (operation !== 'write' && !world.reaches(side)) throw unreachable(side)
      return (await answers[operation]?.(args as never)) as never
    },
    forward: async (there, here) => {
      if (!world.reaches(side)) throw unreachable(side)
      writeFileSync(here, '')
      world.network.forwards.set(`unix:${here}`, `unix:${there}`)
      return { close: () => {} } as Awaited<ReturnType<OtherHost['forward']>>
    },
    close: async () => {},
  }
  return host as OtherHost
}

async function openVm(world: World, name: string): Promise<Vm> {
  const side = name.endsWith('source') ? 'source' : 'destination'
  if (!world.reaches(side) || !world[side].alive) throw unreachable(side)
  const vm = await connect(world[side])
  return side === world.vblkAt ? { ...vm, name, process: { pid: pids[side], uid: 0, gid: 0 } } : { ...vm, name }
}

/** Runs the coordinator between two hosts, then recover until both journals are closed, and says what was violated. */
export async function historyOfTwo(faults: Fault[], circumstances: Circumstances): Promise<History> {
  const world = new World(faults, circumstances)
  const original = { ...thisHost }
  Object.assign(thisHost, {
    machineId: () => machines[world.vblkAt],
    identify: (pid: number) => identifyAt(world, world.vblkAt, pid),
    disk: async () => disk,
  })
  try {
    await play(world, circumstances.recoverAt ?? 'source')
  } finally {
    Object.assign(thisHost, original)
  }
  world.source.die()
  world.destination.die()
  return { faults, moments: world.moments, violations: world.violations, happened: world.happened }
}

async function play(world: World, recoverAt: Side): Promise<void> {
  const settings = { before: world.source.settings, there: world.destination.settings }
  const sides: Sides = {
    source: await openVm(world, '/sim/source'),
    destination: await openVm(world, sshName('destination')),
  }
  const destination = identifyAt(world, 'destination', pids.destination) ?? null
  setHost(sides.destination, { host: hostOfSide(world, 'destination'), process: destination })
  const options = {
    timeoutMs: 600_000,
    signal: world.interruption.signal,
    report: reportTo(world),
    journal: world.newStore(),
    dryRun: false,
    keepSource: false,
    bandwidth: 1_000_000,
  }
  const said = await outcome(world, migrate(sides, options))
  world.happened.push(`vblk says: ${said}`)
  await drop(sides)
  checkSaid(world, said, settings)
  await recoverBlind(world, world.hosts[recoverAt].alive ? recoverAt : other(recoverAt))
  for (let attempt = 0; !isSettled(world); attempt++) {
    if (attempt === 8) {
      world.violations.push(`recover comes to no end: ${phases(world)}`)
      break
    }
    await recoverSighted(world, recoverAt, attempt)
  }
  checkEnd(world, settings)
}

const phases = (world: World) =>
  [world.recordsOf('source')[0], world.recordsOf('destination')[0]].map((record) => record?.phase ?? 'none').join(' / ')

/** Both journals say the same, and nothing is open. */
function isSettled(world: World): boolean {
  const [here, there] = [world.recordsOf('source')[0], world.recordsOf('destination')[0]]
  const known = [here, there].filter((record) => record !== undefined)
  if (known.some(isOpen)) return false
  // Each was vouched to be gone when the other decided: then a user has to say which holds.
  if (known.length === 2 && known.every(({ decidedWithout }) => decidedWithout !== undefined)) return true
  return known.length < 2 || here?.phase === there?.phase
}

/** As things are: a host that can't ask the other one changes nothing unless its own journal says that it is over. */
async function recoverBlind(world: World, at: Side): Promise<void> {
  if (!world.hosts[at].alive) return
  const struck = world.struck
  const [isCut, before] = [!world.linked || !world.hosts[other(at)].alive, state(world)]
  const wasOpen = world.recordsOf(at).some(isOpen)
  const said = await recoverOn(world, at, [])
  if (!isCut || world.struck !== struck || said === undefined) return
  if (wasOpen && said !== ExitCode.Unknown)
    world.violations.push(`the other host is out of reach, nobody vouches for it, and recover says ${said}`)
  if (state(world) !== before)
    world.violations.push('the other host is out of reach, nobody vouches for it, and recover changes something')
}

const state = (world: World) =>
  [phases(world), world.source.runstate, world.source.settings, world.destination.runstate].join()

/** With what the user says, who knows; later with all mended, on either host. */
async function recoverSighted(world: World, recoverAt: Side, attempt: number): Promise<void> {
  const lost = (['source', 'destination'] as const).filter((side) => !world.hosts[side].alive)
  if (lost.length === 2) for (const side of lost) world.returnHost(side)
  const [gone] = lost.length === 1 ? lost : []
  const isOpenThere = gone !== undefined && world.recordsOf(other(gone)).some(isOpen)
  if (gone !== undefined && isOpenThere) {
    await recoverOn(world, other(gone), [gone])
    return
  }
  if (gone !== undefined) world.returnHost(gone)
  world.linked = true
  // It may be a host that has never heard of it.
  const at = attempt % 2 === 0 ? (gone ?? recoverAt) : other(recoverAt)
  await recoverOn(world, world.recordsOf(at).length > 0 ? at : other(at), [])
}

async function recoverOn(world: World, at: Side, fenced: readonly Side[]): Promise<Said | undefined> {
  world.startVblk(at)
  const journal = world.newStore(at)
  const [chosen] = world.recordsOf(at)
  if (chosen === undefined || !isOfTwo(chosen)) return undefined
  const opened: Vm[] = []
  const { warnings } = world
  const warn = (message: string) => void warnings.push(message)
  const options: HostsOptions = {
    journal,
    fenced,
    peer: other(at),
    warn,
    openHost: async () => {
      if (!world.reaches(other(at))) throw unreachable(other(at))
      return hostOfSide(world, other(at))
    },
    openVm: async (name) => {
      const vm = await openVm(world, name)
      opened.push(vm)
      return vm
    },
  }
  const once = (destinationRan?: boolean) =>
    outcome(
      world,
      withMigration(chosen, options, async (found) => {
        const { record } = found
        if (isOpen(record)) await recover(record, { ...found, report: reportTo(world), destinationRan })
        else await endLeftDestination(record, found.found, warn)
      }),
    )
  let said = await once()
  const mayHaveRun = world.recordsOf(at)[0]?.phase === 'commit'
  if (said === ExitCode.Unknown && mayHaveRun && !world.destination.alive && (world.linked || fenced.length > 0))
    said = await once(world.destinationRan)
  world.happened.push(`recover at the ${at}, fenced ${fenced.join() || 'none'}: ${said}`)
  for (const vm of opened) await vm.qmp.close().catch(() => {})
  return said
}
