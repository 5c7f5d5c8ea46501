// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../../src/errors.ts'
import { decidedOf, newerOf } from '../../src/migration/hosts/with-hosts.ts'
import { formatRecord, isOpen, type MigrationRecord, parseRecord } from '../../src/migration/journal/record.ts'
import type { JournalStore } from '../../src/migration/journal/store.ts'
import type { Side } from '../../src/migration/options.ts'
import { type Disk, QemuModel, Refusal, type Watcher } from './qemu.ts'

/** What may go wrong at one moment: before or after a command or a journal's write takes effect. */
export const faultKinds = [
  'vblk dies before',
  'vblk dies after',
  'source dies before',
  'source dies after',
  'destination dies before',
  'destination dies after',
  'source drops its monitor',
  'destination drops its monitor',
  'refused',
  'interrupted',
  'guest toggles its write cache',
  'stream is cut',
] as const

/** The same between two hosts. */
export const hostFaultKinds = [
  'vblk dies before',
  'vblk dies after',
  'source host dies before',
  'source host dies after',
  'destination host dies before',
  'destination host dies after',
  'destination dies before',
  'link is cut before',
  'link is cut after',
  'refused',
] as const

export interface Fault {
  kind: (typeof faultKinds)[number] | (typeof hostFaultKinds)[number]
  /** The number of the moment. */
  at: number
}

/** What is wrong all the time. */
export interface Circumstances {
  /** The source's backend goes on although the VM stands still. */
  backendStuck?: boolean
  /** The destination loads another write cache than the source had. */
  writeCacheLost?: boolean
  /** The VM stands still when the migration begins. */
  paused?: boolean
  /** A destination that ends before the switchover is not noticed in it. */
  endUnnoticed?: boolean
  /** The VM runs at the destination before its memory is there. */
  postcopy?: boolean
  /** By `prepare`, `run` and `finish` instead of `migrate`. */
  inParts?: boolean
  /** The disk's contents go along to another image. */
  copyStorage?: boolean
  /** That image does not take all of them. */
  copyFails?: boolean
  /** Between two hosts, each with a journal; the first recover is run on this one's. */
  recoverAt?: Side
  /** The journal of the destination's host is written first. */
  thereFirst?: boolean
}

/** Passes a socket of one host on to one of the other. */
class Network extends Map<string, QemuModel> {
  readonly forwards = new Map<string, string>()

  override get(uri: string): QemuModel | undefined {
    return super.get(this.forwards.get(uri) ?? uri)
  }
}

/** A host as its journal and its processes outlive a vblk. */
interface HostState {
  alive: boolean
  boots: number
  /** Text by id. */
  journal: Map<string, string>
}

const newHost = (): HostState => ({ alive: true, boots: 1, journal: new Map() })

/** Two QEMUs, a journal, a vblk that may die, and all that must never happen between them. */
export class World implements Watcher {
  readonly #faults: Fault[]
  readonly #circumstances: Circumstances
  readonly network = new Network()
  /** One host has one journal: the source's. */
  readonly hosts: Record<Side, HostState> = { source: newHost(), destination: newHost() }
  /** Whether the hosts reach each other. */
  linked = true
  /** Where vblk works. */
  vblkAt: Side = 'source'
  /** How many have worked. */
  lives = 1
  /** Faults that have struck so far. */
  struck = 0
  #killVblk = () => {}
  #vblkLives = true
  readonly source: QemuModel
  readonly destination: QemuModel
  /** Of every moment so far. */
  readonly moments: string[] = []
  readonly violations: string[] = []
  readonly happened: string[] = []
  readonly warnings: string[] = []
  destinationRan = false
  /** As the source's state was saved. */
  saved: Pick<Disk, 'original' | 'current'> | undefined
  interruption = new AbortController()
  vblkDied: Promise<'vblk died'>

  constructor(faults: Fault[], circumstances: Circumstances) {
    this.#faults = faults
    this.#circumstances = circumstances
    const disk: Disk = { original: true, current: false, node: 'vblk-d1', holdsImage: true }
    const state = circumstances.paused ? 'paused' : 'running'
    this.source = new QemuModel('/sim/source', this, this.network, state, disk)
    this.destination = new QemuModel('/sim/destination', this, this.network, 'inmigrate')
    this.vblkDied = this.#newVblk()
  }

  get ofTwoHosts(): boolean {
    return this.#circumstances.recoverAt !== undefined
  }

  /** Another vblk begins to work, which nobody interrupts. */
  startVblk(at: Side = 'source'): void {
    this.#vblkLives = true
    this.vblkAt = at
    this.lives++
    this.interruption = new AbortController()
    this.vblkDied = this.#newVblk()
  }

  #newVblk(): Promise<'vblk died'> {
    return new Promise((resolve) => {
      this.#killVblk = () => {
        this.#vblkLives = false
        this.source.disconnect()
        this.destination.disconnect()
        resolve('vblk died')
      }
    })
  }

  /** Whether the vblk at work reaches a host. */
  reaches(side: Side): boolean {
    return side === this.vblkAt || (this.linked && this.hosts[side].alive)
  }

  cutLink(): void {
    this.linked = false
    this.network.forwards.clear()
    this.source.cut()
    this[this.vblkAt === 'source' ? 'destination' : 'source'].disconnect()
  }

  #loseHost(side: Side): void {
    this.hosts[side].alive = false
    this.cutLink()
    this[side].die()
    if (this.vblkAt === side) this.#killVblk()
  }

  /** It has booted again: its journal is as it was, and no process. */
  returnHost(side: Side): void {
    this.hosts[side].alive = true
    this.hosts[side].boots++
    this.linked = true
  }

  /** What happens at the moment that is now; false if there is no moment after it for who acts. */
  #pass(label: string, moment: 'before' | 'after', acting?: QemuModel): boolean {
    if (moment === 'before') this.moments.push(label)
    const now = this.moments.length - 1
    for (const { kind, at } of this.#faults) {
      if (at !== now || !this.#isAt(kind, moment)) continue
      this.happened.push(`${kind}: ${label}`)
      this.struck++
      if (kind === 'refused') {
        if (acting !== undefined) throw new Refusal('a fault of the simulation')
        throw new VblkError('JOURNAL_NOT_WRITTEN', ExitCode.HostLacks, 'a fault of the simulation')
      }
      this.#strike(kind)
    }
    return this.#vblkLives && acting?.alive !== false
  }

  #isAt(kind: Fault['kind'], moment: 'before' | 'after'): boolean {
    return kind.endsWith('after') ? moment === 'after' : moment === 'before'
  }

  #strike(kind: Fault['kind']): void {
    if (kind.startsWith('vblk dies')) this.#killVblk()
    else if (kind.startsWith('source host dies')) this.#loseHost('source')
    else if (kind.startsWith('destination host dies')) this.#loseHost('destination')
    else if (kind.startsWith('link is cut')) this.cutLink()
    else if (kind.startsWith('source dies')) this.source.die()
    else if (kind.startsWith('destination dies')) this.destination.die()
    else if (kind === 'source drops its monitor') this.source.disconnect()
    else if (kind === 'destination drops its monitor') this.destination.disconnect()
    else if (kind === 'stream is cut') this.source.cut()
    else if (kind === 'interrupted')
      this.interruption.abort(new VblkError('INTERRUPTED', ExitCode.Interrupted, 'interrupted'))
    else if (kind === 'guest toggles its write cache') {
      const guests = [this.source, this.destination].filter((qemu) => qemu.isRunning)
      for (const { disk } of guests) if (disk !== undefined) disk.current = !disk.current
    }
  }

  command(qemu: QemuModel, name: string, moment: 'before' | 'after'): boolean {
    if (name === 'qmp_capabilities') return true
    return this.#pass(`${qemu.name.split('/').at(-1)} ${name}`, moment, qemu)
  }

  transferred(disk: Disk): Disk {
    this.saved = { original: disk.original, current: disk.current }
    return this.#circumstances.writeCacheLost ? { ...disk, current: !disk.current } : disk
  }

  backendIsStuck(): boolean {
    return this.#circumstances.backendStuck === true
  }

  endIsUnnoticed(): boolean {
    return this.#circumstances.endUnnoticed === true
  }

  copyFails(): boolean {
    return this.#circumstances.copyFails === true
  }

  changed(qemu: QemuModel, what: string): void {
    const { source, destination } = this
    this.happened.push(`${qemu.name.split('/').at(-1)}: ${what}`)
    if (destination.isRunning) {
      if (!this.destinationRan) this.#checkFirstRun()
      this.destinationRan = true
    }
    if (qemu === source && what === 'migration postcopy-active' && this.owner !== 'destination')
      this.violations.push('the source can not run any more, and owns the disks')
    if (source.isRunning && destination.isRunning) this.violations.push('both run the VM')
    const isLetGo = this.ofTwoHosts && qemu === source && what === 'running'
    if (isLetGo && this.recordsOf('source').at(-1)?.owner === 'destination')
      this.violations.push('the source goes on, and its journal says that the destination owns the disks')
    if (source.isRunning && this.destinationRan)
      this.violations.push('the source runs with memory older than the disks')
    const holds = (each: QemuModel) => each.alive && each.disk?.holdsImage === true
    if (holds(source) && holds(destination) && source.file === destination.file)
      this.violations.push('both hold the image')
  }

  #checkFirstRun(): void {
    const { current } = this.destination.disk ?? {}
    // Where the source has died or can't go on, the VM lives on in the only place where it can; what is unsafe is mended.
    const isSafe = this.#circumstances.postcopy === true && current === false
    if (current !== this.saved?.current && this.source.alive && !isSafe)
      this.violations.push('the VM runs with another write cache than it had')
    if (this.#circumstances.backendStuck) this.violations.push('the VM runs although its backend had not stopped')
    const { copyStorage } = this.#circumstances
    if (copyStorage && this.destination.storage.contents !== this.source.storage.contents)
      this.violations.push('the VM runs on an image that lacks what its guest wrote')
    for (const side of this.ofTwoHosts ? (['source', 'destination'] as const) : (['source'] as const)) {
      if (this.reaches(side) && this.recordsOf(side).at(-1)?.owner !== 'destination')
        this.violations.push(`the VM runs at a destination that does not own the disks, by the journal of the ${side}`)
    }
  }

  get owner(): Side | undefined {
    return this.records.at(-1)?.owner
  }

  /** As the host knows it that knows more. */
  get records(): MigrationRecord[] {
    const [here, there] = [this.recordsOf('source'), this.recordsOf('destination')]
    return (there[0]?.entered.length ?? 0) > (here[0]?.entered.length ?? 0) ? there : here
  }

  recordsOf(side: Side): MigrationRecord[] {
    return [...this.hosts[side].journal.values()].map((text) => {
      const record = parseRecord(text)
      if ('fault' in record) throw new Error(`the journal holds a record that is refused: ${record.fault}`)
      return record
    })
  }

  get open(): MigrationRecord | undefined {
    return this.records.find(isOpen)
  }

  /** The journal of a vblk: what one writes that has died meanwhile is nowhere, and nobody hears of it. */
  newStore(at: Side = 'source'): JournalStore {
    const life = this.vblkDied
    const never = () => new Promise<never>(() => {})
    const isMine = () => this.#vblkLives && this.vblkDied === life
    const where = this.ofTwoHosts ? `${at} ` : ''
    return {
      write: async (record) => {
        if (!isMine()) return await never()
        if (at === this.vblkAt && this.#circumstances.thereFirst) await Promise.resolve()
        if (!isMine() || !this.#pass(`journal ${where}${record.phase}`, 'before')) return await never()
        if (!this.reaches(at)) throw unreachable(at)
        this.#keep(at, record)
        if (!this.#pass(`journal ${where}${record.phase}`, 'after')) return await never()
        if (!this.reaches(at)) throw unreachable(at)
      },
      list: async () => (isMine() ? this.recordsOf(at) : await never()),
      prune: async () => {},
    }
  }
  #keep(at: Side, record: MigrationRecord): void {
    const before = this.recordsOf(at)[0]
    if (
      before !== undefined &&
      (newerOf(before, record) ?? decidedOf(before, record))?.entered.length !== record.entered.length
    )
      this.violations.push(`the journal of the ${at} forgets what it said: ${before.phase}, then ${record.phase}`)
    this.hosts[at].journal.set(record.id, formatRecord(record))
  }
}

export const unreachable = (at: Side): VblkError =>
  new VblkError('HOST_LOST', ExitCode.RolledBack, `the ${at}'s host can't be reached`)
