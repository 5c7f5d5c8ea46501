// SPDX-License-Identifier: GPL-2.0-or-later
// A model of QEMU 10.0 as far as a migration sees it: run states, the migration's own states, settings, one disk. What it
// answers is compared with a real QEMU's answers (model.test.ts).

import type { Duplex } from 'node:stream'
import { Storage, storageHandlers } from './storage.ts'
import { connectedPair } from './stream.ts'

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json }
type Arguments = Record<string, Json>

export const image = '/images/disk.raw'
export const diskBytes = 8 << 20

/** The guest's disk, as the device has it. */
export interface Disk {
  original: boolean
  current: boolean
  node: string
  /** The image is this QEMU's to write. */
  holdsImage: boolean
}

export type RunState = 'running' | 'paused' | 'inmigrate' | 'finish-migrate' | 'postmigrate'
type Status =
  | ('none' | 'setup' | 'active' | 'pre-switchover' | 'device' | 'completed' | 'cancelled' | 'failed')
  | ('postcopy-active' | 'postcopy-paused')

/** Whoever watches the models: learns of every command before and after it takes effect, and of every change. */
export interface Watcher {
  /** Throws to refuse the command; returns false if the model or its connection is gone now. */
  command(qemu: QemuModel, name: string, moment: 'before' | 'after'): boolean
  changed(qemu: QemuModel, what: string): void
  /** What the stream of a migration brings along; a fault may change it. */
  transferred(disk: Disk): Disk
  /** A fault: the backend goes on although the VM stands still. */
  backendIsStuck(): boolean
  /** The rest of the stream goes into the socket at one go, and nobody notices that no one reads it: QEMU does either. */
  endIsUnnoticed(): boolean
  /** The image that the disk is copied to takes no more. */
  copyFails(): boolean
}

export class Refusal extends Error {}

const settings = (): { capabilities: Map<string, boolean>; parameters: Map<string, Json> } => ({
  capabilities: new Map(
    ['xbzrle', 'auto-converge', 'events', 'postcopy-ram', 'pause-before-switchover', 'multifd'].map((each) => [
      each,
      false,
    ]),
  ),
  parameters: new Map<string, Json>([
    ['max-bandwidth', 134217728],
    ['max-postcopy-bandwidth', 0],
    ['downtime-limit', 300],
    ['multifd-channels', 2],
    ['multifd-compression', 'none'],
  ]),
})

export class QemuModel {
  readonly name: string
  readonly #watcher: Watcher
  /** Who listens where: the other QEMU is found by the migration's URI. */
  readonly #network: Map<string, QemuModel>
  #client: Duplex | undefined
  #startsByItself = true
  #peer: QemuModel | undefined
  #wasRunning = false
  #inPostcopy = false
  alive = true
  runstate: RunState
  migration: Status = 'none'
  disk: Disk | undefined
  nodes: string[] = []
  /** The image that its disk is on. */
  file = image
  readonly storage = new Storage()
  capabilities = settings().capabilities
  parameters = settings().parameters

  constructor(name: string, watcher: Watcher, network: Map<string, QemuModel>, runstate: RunState, disk?: Disk) {
    this.name = name
    this.#watcher = watcher
    this.#network = network
    this.runstate = runstate
    this.disk = disk
    if (disk !== undefined) this.nodes = [disk.node, `${disk.node}-file`]
    const setActive = (active: boolean) => this.#holdImage(active)
    Object.assign(
      this.#handlers,
      storageHandlers(this, network, setActive, () => watcher.copyFails()),
    )
  }

  get isRunning(): boolean {
    return this.alive && this.runstate === 'running'
  }

  /** What a migration may change, and must put back. */
  get settings(): string {
    return JSON.stringify([...this.capabilities, ...this.parameters])
  }

  /** A new connection to the monitor. */
  connect(): Duplex {
    if (!this.alive) throw Object.assign(new Error(`connect ECONNREFUSED ${this.name}`), { code: 'ECONNREFUSED' })
    this.#client?.destroy()
    const [ours, theirs] = connectedPair()
    this.#client = ours
    let text = ''
    ours.on('data', (chunk) => {
      text += chunk
      const lines = text.split('\n')
      text = lines.pop() ?? ''
      for (const line of lines) if (line.trim() !== '') this.#answer(ours, JSON.parse(line))
    })
    ours.on('error', () => {})
    const version = { qemu: { major: 10, minor: 0, micro: 13 }, package: '' }
    ours.write(`${JSON.stringify({ QMP: { version, capabilities: ['oob'] } })}\r\n`)
    return theirs
  }

  disconnect(): void {
    this.#client?.destroy()
    this.#client = undefined
  }

  /** The process ends, at once. */
  die(): void {
    if (!this.alive) return
    this.alive = false
    this.disconnect()
    this.#watcher.changed(this, 'died')
    const peer = this.#peer
    this.#peer = undefined
    peer?.peerDied()
    for (const qemu of this.#network.values()) if (qemu.storage.target === this) qemu.storage.fail('Connection lost')
  }

  /** Nothing comes through between this source and its destination any more. */
  cut(): void {
    const peer = this.#peer
    if (peer === undefined) return
    this.peerDied()
    if (peer.alive) peer.peerDied()
  }

  peerDied(): void {
    this.#peer = undefined
    if (this.migration === 'postcopy-active') {
      this.#setMigration('postcopy-paused')
      return
    }
    if (this.runstate === 'inmigrate') {
      this.#setMigration('failed')
      return
    }
    // In pre-switchover nobody reads or writes the stream: it shows with the next step.
    if (this.migration === 'active' || this.migration === 'device') this.#failAndResume()
  }

  #answer(client: Duplex, { execute, arguments: args = {}, id }: { execute: string; arguments?: Arguments; id: Json }) {
    const reply = (body: Record<string, Json>) => {
      if (!client.destroyed) client.write(`${JSON.stringify({ ...body, id })}\r\n`)
    }
    try {
      // The guest writes all the time.
      if (this.isRunning) this.storage.contents++
      if (!this.#watcher.command(this, execute, 'before')) return
      const result = this.#execute(execute, args)
      if (!this.#watcher.command(this, execute, 'after')) return
      reply({ return: result })
      if (execute === 'quit') this.die()
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      reply({ error: { class: 'GenericError', desc: error.message } })
    }
  }

  #event(event: string, data: Json = {}): void {
    const microseconds = Math.round(performance.now() * 1000)
    const timestamp = {
      seconds: 1_700_000_000 + Math.floor(microseconds / 1e6),
      microseconds: microseconds % 1_000_000,
    }
    this.#client?.write(`${JSON.stringify({ event, data, timestamp })}\r\n`)
  }

  #setRunstate(runstate: RunState): void {
    const [was, is] = [this.runstate === 'running', runstate === 'running']
    this.runstate = runstate
    if (was && !is) this.#event('STOP')
    if (!was && is) this.#event('RESUME')
    this.#watcher.changed(this, runstate)
  }

  #setMigration(status: Status): void {
    this.migration = status
    if (this.capabilities.get('events')) this.#event('MIGRATION', { status })
    this.#watcher.changed(this, `migration ${status}`)
  }

  #holdImage(holds: boolean): void {
    if (this.disk !== undefined) this.disk.holdsImage = holds
    this.#watcher.changed(this, holds ? 'holds the image' : 'has let go of the image')
  }

  #failAndResume(): void {
    this.#setMigration('failed')
    this.#resumeAsBefore()
  }

  #resumeAsBefore(): void {
    this.#holdImage(true)
    this.#setRunstate(this.#wasRunning ? 'running' : 'paused')
  }

  #execute(name: string, args: Arguments): Json {
    const handler = this.#handlers[name]
    if (handler === undefined) throw new Refusal(`The command ${name} has not been found`)
    return handler(args)
  }

  readonly #handlers: Record<string, (args: Arguments) => Json> = {
    qmp_capabilities: () => ({}),
    'query-status': () => ({ status: this.runstate, running: this.runstate === 'running' }),
    'query-migrate': () => {
      const info = this.migration === 'none' ? {} : { status: this.migration, ...this.#figures() }
      // The memory has followed some time after somebody has seen it follow.
      this.#follow()
      return info
    },
    'query-migrate-capabilities': () => [...this.capabilities].map(([capability, state]) => ({ capability, state })),
    'query-migrate-parameters': () => Object.fromEntries(this.parameters),
    'migrate-set-capabilities': ({ capabilities }) => {
      for (const { capability, state } of capabilities as { capability: string; state: boolean }[])
        this.capabilities.set(capability, state)
      return {}
    },
    'migrate-set-parameters': (args) => {
      for (const [key, value] of Object.entries(args)) this.parameters.set(key, value)
      this.#follow()
      return {}
    },
    'device-list-properties': () => [
      { name: 'num-queues', type: 'uint16', 'default-value': 65535 },
      { name: 'write-cache', type: 'OnOffAuto', 'default-value': 'auto' },
      { name: 'logical_block_size', type: 'size' },
    ],
    'qom-list': ({ path }) => this.#qomList(path as string),
    'qom-get': ({ path, property }) => this.#qomGet(path as string, property as string),
    'x-query-virtio-status': () => ({ status: { statuses: ['VIRTIO_CONFIG_S_DRIVER_OK: Driver setup and ready'] } }),
    'query-named-block-nodes': () => [...this.nodes, ...this.storage.filters].map((node) => this.#node(node)),
    'qom-set': ({ property, value }) => {
      if (property !== 'current-write-cache' || value !== false || this.disk === undefined)
        throw new Refusal(`Property 'vhost-blk-pci.${property}' is not settable here`)
      this.disk.current = false
      return {}
    },
    'query-fdsets': () => [],
    'query-block': () =>
      this.disk === undefined
        ? []
        : [{ device: '', qdev: '/machine/peripheral/d1/virtio-backend', inserted: this.#node(this.disk.node) }],
    'blockdev-add': (args) => {
      if (args.driver === 'nbd') return this.#connectNbd(args)
      const file = args.file as Arguments
      this.nodes.push(args['node-name'] as string, file['node-name'] as string)
      this.file = file.filename as string
      return {}
    },
    'blockdev-del': ({ 'node-name': node }) => {
      if (!this.nodes.includes(node as string)) throw new Refusal(`Failed to find node with node-name='${node}'`)
      if (this.disk?.node === node) throw new Refusal(`Node ${node} is in use`)
      if (this.storage.job?.id === node) throw new Refusal(`Node ${node} is in use`)
      if (node === 'vblk-copy-0') this.storage.target = undefined
      this.nodes = this.nodes.filter((each) => each !== node && each !== `${node}-file`)
      return {}
    },
    device_add: (args) => {
      if (this.disk !== undefined) throw new Refusal("Duplicate device ID 'd1'")
      const original = args['write-cache'] !== 'off'
      this.disk = { original, current: original, node: args.drive as string, holdsImage: false }
      return {}
    },
    device_del: () => {
      this.disk = undefined
      this.#event('DEVICE_DELETED', { device: 'd1', path: '/machine/peripheral/d1' })
      return {}
    },
    stop: () => {
      if (this.runstate === 'inmigrate') this.#startsByItself = false
      else if (this.runstate === 'running') this.#setRunstate('paused')
      return {}
    },
    cont: () => {
      if (this.runstate === 'inmigrate') this.#startsByItself = true
      else if (this.runstate === 'finish-migrate') throw new Refusal('Migration is in progress')
      else if (this.runstate !== 'running') {
        this.#holdImage(true)
        this.#setRunstate('running')
      }
      return {}
    },
    'blockdev-set-active': ({ active }) => {
      this.#holdImage(active as boolean)
      return {}
    },
    'migrate-incoming': ({ uri }) => {
      if (this.runstate !== 'inmigrate' || this.migration !== 'none')
        throw new Refusal('The incoming migration has already been started')
      this.#network.set(uri as string, this)
      this.#setMigration('setup')
      return {}
    },
    'migrate-recover': ({ uri }) => {
      if (this.migration !== 'postcopy-paused' || this.#inPostcopy)
        throw new Refusal('Migrate recover can only be run when postcopy is paused.')
      this.#network.set(uri as string, this)
      return {}
    },
    'migrate-pause': () => {
      if (this.migration !== 'postcopy-active') throw new Refusal('migrate-pause is currently only supported during')
      this.cut()
      return {}
    },
    migrate: ({ uri, resume }) => {
      const peer = this.#network.get(uri as string)
      if (resume === true) return this.#resume(peer)
      if (this.migration === 'postcopy-paused') throw new Refusal("There's a migration process in progress")
      if (peer === undefined || !peer.alive) {
        this.#setMigration('failed')
        return {}
      }
      this.#peer = peer
      peer.#peer = this
      this.#wasRunning = this.runstate === 'running'
      this.#setMigration('active')
      peer.#setMigration('active')
      // Its guest changes memory faster than it can be sent.
      if (!this.capabilities.get('postcopy-ram')) setImmediate(() => this.#toPreSwitchover())
      return {}
    },
    'migrate-start-postcopy': () => {
      if (!this.capabilities.get('postcopy-ram'))
        throw new Refusal('Enable postcopy with migrate_set_capability before')
      if (this.migration === 'none') throw new Refusal('Postcopy must be started after migration has been started')
      this.#inPostcopy = true
      setImmediate(() => this.#toPreSwitchover())
      return {}
    },
    'migrate-continue': () => {
      if (this.migration !== 'pre-switchover') throw new Refusal('Migration not in expected state')
      this.#setMigration('device')
      setImmediate(() => (this.#inPostcopy ? this.#passOn() : this.#complete()))
      return {}
    },
    migrate_cancel: () => {
      if (this.migration.startsWith('postcopy')) throw new Refusal('Postcopy migration in progress, cannot cancel.')
      if (this.migration !== 'active' && this.migration !== 'pre-switchover' && this.migration !== 'device') return {}
      const peer = this.#peer
      this.#peer = undefined
      this.#setMigration('cancelled')
      if (peer?.alive) peer.peerDied()
      this.#resumeAsBefore()
      return {}
    },
    quit: () => ({}),
  }

  #connectNbd(args: Arguments): Json {
    const peer = this.#network.get((args.server as Arguments).path as string)
    if (peer?.alive !== true || !peer.storage.isExported) throw new Refusal('Failed to connect')
    this.storage.target = peer
    this.#network.set(`nbd ${this.name}`, this)
    this.nodes.push(args['node-name'] as string)
    return {}
  }

  #toPreSwitchover(): void {
    if (!this.alive || this.migration !== 'active') return
    this.#setRunstate('finish-migrate')
    this.#setMigration('pre-switchover')
  }

  #complete(): void {
    if (!this.alive || this.migration !== 'device') return
    const peer = this.#peer?.alive ? this.#peer : undefined
    this.#peer = undefined
    if (peer === undefined && !this.#watcher.endIsUnnoticed()) {
      this.#failAndResume()
      return
    }
    this.#holdImage(false)
    if (peer !== undefined) {
      peer.#peer = undefined
      peer.#take(this.disk)
    }
    this.#setMigration('completed')
    this.#setRunstate('postmigrate')
  }

  /** The state of all devices goes, and the memory after it. */
  #passOn(): void {
    if (!this.alive || this.migration !== 'device') return
    const peer = this.#peer?.alive ? this.#peer : undefined
    if (peer === undefined && !this.#watcher.endIsUnnoticed()) {
      this.#failAndResume()
      return
    }
    this.#holdImage(false)
    this.#setMigration('postcopy-active')
    if (peer === undefined) this.#setMigration('postcopy-paused')
    else peer.#take(this.disk, 'postcopy-active')
  }

  /** Lets the rest of the memory come, unless that takes longer than anybody waits. */
  #follow(): void {
    if (!this.#inPostcopy || this.migration !== 'postcopy-active') return
    const rate = Number(this.parameters.get('max-postcopy-bandwidth'))
    if (rate === 0 || rate >= 1_000_000) setImmediate(() => this.#completePostcopy())
  }

  #resume(peer: QemuModel | undefined): Json {
    if (this.migration !== 'postcopy-paused') throw new Refusal('Cannot resume if there is no paused migration')
    if (peer?.alive !== true) return {}
    this.#peer = peer
    peer.#peer = this
    for (const each of [this, peer]) each.#setMigration('postcopy-active')
    return {}
  }

  #completePostcopy(): void {
    const peer = this.#peer
    if (!this.alive || this.migration !== 'postcopy-active' || peer?.alive !== true) return
    this.#peer = undefined
    peer.#peer = undefined
    peer.#setMigration('completed')
    this.#setMigration('completed')
    this.#setRunstate('postmigrate')
  }

  /** All of the VM has arrived, but memory in postcopy. */
  #take(disk: Disk | undefined, status: 'completed' | 'postcopy-active' = 'completed'): void {
    if (this.disk !== undefined && disk !== undefined) {
      const { original, current } = this.#watcher.transferred(disk)
      this.disk = { ...this.disk, original, current, holdsImage: false }
    }
    this.#setMigration(status)
    if (this.#startsByItself) this.#holdImage(true)
    this.#setRunstate(this.#startsByItself ? 'running' : 'paused')
  }

  #figures(): Record<string, Json> {
    return this.runstate === 'inmigrate'
      ? {}
      : { 'total-time': 1, ram: { transferred: 1 << 20, total: 1 << 26, remaining: 0 } }
  }

  #qomList(path: string): Json {
    const child = (name: string, type: string) => ({ name, type: `child<${type}>` })
    const type = { name: 'type', type: 'string' }
    if (path === '/machine/peripheral-anon') return [type]
    if (path === '/machine/peripheral')
      return [type, child('rp1', 'pcie-root-port'), ...(this.disk === undefined ? [] : [child('d1', 'vhost-blk-pci')])]
    if (path === '/machine/peripheral/d1' && this.disk !== undefined)
      return [type, child('virtio-backend', 'vhost-blk-device')]
    throw new Refusal(`Device '${path}' not found`)
  }

  #qomGet(path: string, property: string): Json {
    if (path === '/machine' && property === 'type') return 'pc-q35-10.0-machine'
    if (path !== '/machine/peripheral/d1' || this.disk === undefined) throw new Refusal(`Device '${path}' not found`)
    const serves = this.runstate === 'running' && this.storage.job === undefined
    const active = serves || (this.runstate === 'finish-migrate' && this.#watcher.backendIsStuck())
    const values: Record<string, Json> = {
      'num-queues': 1,
      'write-cache': this.disk.original ? 'auto' : 'off',
      'original-write-cache': this.disk.original,
      'current-write-cache': this.disk.current,
      serial: '',
      logical_block_size: 512,
      physical_block_size: 512,
      discard: true,
      parent_bus: '/machine/peripheral/rp1/rp1',
      'legacy-addr': '00.0',
      vhost: 'auto',
      'vhost-state': {
        active,
        reason: active ? '' : 'the VM does not run',
        fds: '',
        'running-queues': active ? 1 : 0,
        requests: 0,
        errors: 0,
      },
    }
    const value = values[property]
    if (value === undefined) throw new Refusal(`Property 'vhost-blk-pci.${property}' not found`)
    return value
  }

  #node(name: string): Json {
    return {
      'node-name': name,
      drv: name.endsWith('-file') ? 'file' : 'raw',
      file: this.file,
      ro: false,
      active: this.disk?.holdsImage ?? false,
      image: { filename: this.file, format: 'raw', 'virtual-size': diskBytes },
      cache: { direct: true, 'no-flush': false, writeback: true },
      iops: 0,
      bps: 0,
    }
  }
}
