// SPDX-License-Identifier: GPL-2.0-or-later
import { setTimeout as sleep } from 'node:timers/promises'
import { Guest, type GuestOptions } from '../lab/guest.ts'
import type { Lab } from '../lab/lab.ts'

/** What QEMU answers for the property `vhost-state`. */
export interface VhostState {
  active: boolean
  reason: string
  fds: string
  'running-queues': number
  requests: number
  errors: number
  inflight: number
  held: number
  reads: number
  writes: number
  flushes: number
  discards: number
  'read-bytes': number
  'write-bytes': number
  'read-time-ns': number
  'write-time-ns': number
}

const mebibyte = 1 << 20

/** Makes a sparse image in L1 and returns its path. */
export async function makeImage(lab: Lab, name: string, mebibytes = 64): Promise<string> {
  const path = `/var/lib/device-test/${name}.raw`
  await lab.check(['install', '-d', '-m', '0700', '/var/lib/device-test'])
  await lab.check(['truncate', '-s', String(mebibytes * mebibyte), path])
  return path
}

/** Loads the module and starts QEMU with the device's object, without help from the CLI. */
export async function startGuest(lab: Lab, options: GuestOptions): Promise<Guest> {
  await lab.check(['modprobe', 'vhost_blk'])
  const object = (await lab.check(['sh', '-c', 'echo /opt/vblk/native/qemu/objects/*/vhost-blk.so'])).trim()
  const args = ['-plugin', `file=${object}`, ...(options.args ?? [])]
  return await Guest.start(lab, { ...options, device: false, args })
}

/** Waits until a condition holds; throws with the last value if it doesn't within the time. */
export async function eventually<T>(ask: () => Promise<T>, holds: (value: T) => boolean, seconds = 60): Promise<T> {
  const end = Date.now() + seconds * 1000
  for (;;) {
    const value = await ask()
    if (holds(value)) return value
    if (Date.now() > end) throw new Error(`not so after ${seconds} s: ${holds}; last seen: ${JSON.stringify(value)}`)
    await sleep(200)
  }
}

export interface DiskOptions {
  /** Which of the guest's disks: its root port, and the number in the names of its nodes; 0 unless given. */
  index?: number
  /** QEMU device type; vhost-blk-pci unless given. */
  driver?: string
  /** Options of the protocol node, beside driver and filename. */
  file?: Record<string, unknown>
  /** Options of the raw node. */
  raw?: Record<string, unknown>
  /** Properties of the device. */
  device?: Record<string, unknown>
}

/** A disk plugged into a running guest at a root port, by QMP alone. */
export class Disk {
  readonly guest: Guest
  readonly index: number
  /** `disk`, `disk1`, `disk2`… */
  readonly id: string

  constructor(guest: Guest, index = 0) {
    this.guest = guest
    this.index = index
    this.id = index ? `disk${index}` : 'disk'
  }

  /** Adds the nodes and the device; returns when QEMU has them, the guest may not have seen them yet. */
  static async plug(guest: Guest, path: string, options: DiskOptions = {}): Promise<Disk> {
    const { index = 0 } = options
    const disk = new Disk(guest, index)
    const direct = { direct: true }
    await guest.ask('blockdev-add', {
      driver: 'file',
      'node-name': `file${index}`,
      filename: path,
      cache: direct,
      ...options.file,
    })
    await guest.ask('blockdev-add', {
      driver: 'raw',
      'node-name': `raw${index}`,
      file: `file${index}`,
      cache: direct,
      ...options.raw,
    })
    await guest.ask('device_add', {
      driver: options.driver ?? 'vhost-blk-pci',
      id: disk.id,
      drive: `raw${index}`,
      bus: `port${index}`,
      serial: `LAB000${index + 1}`,
      ...options.device,
    })
    return disk
  }

  async get(property: string): Promise<unknown> {
    return await this.guest.ask('qom-get', { path: `/machine/peripheral/${this.id}`, property })
  }

  async set(property: string, value: unknown): Promise<void> {
    await this.guest.ask('qom-set', { path: `/machine/peripheral/${this.id}`, property, value })
  }

  async state(): Promise<VhostState> {
    return (await this.get('vhost-state')) as VhostState
  }

  /** Waits for the kernel to serve the disk. */
  async onKernel(seconds = 60): Promise<VhostState> {
    return await eventually(
      () => this.state(),
      (state) => state.active,
      seconds,
    )
  }

  /** Waits for QEMU to serve the disk for a reason that holds the given words. */
  async onUserspace(words: string): Promise<VhostState> {
    const state = await eventually(
      () => this.state(),
      ({ active }) => !active,
    )
    if (!state.reason.includes(words)) throw new Error(`userspace serves, but because "${state.reason}"`)
    return state
  }

  /** Unplugs the device, waits until it is gone, and removes its nodes. */
  async unplug(): Promise<void> {
    await this.guest.ask('device_del', { id: this.id })
    const path = '/machine/peripheral'
    await eventually(
      async () => (await this.guest.ask('qom-list', { path })) as { name: string }[],
      (children) => !children.some(({ name }) => name === this.id),
    )
    await this.removeNodes()
  }

  /** Removes the nodes of a device that is gone. QEMU lets go of them in an RCU callback, a moment after it has said so. */
  async removeNodes(): Promise<void> {
    for (const node of [`raw${this.index}`, `file${this.index}`]) {
      const said = await eventually(
        () =>
          this.guest.ask('blockdev-del', { 'node-name': node }).then(
            () => 'removed',
            (error: Error) => error.message,
          ),
        (answer) => !answer.includes('is in use'),
      )
      if (said !== 'removed') throw new Error(`${node}: ${said}`)
    }
  }
}

/** Migrates between two guests of the same lab with a pause before the switchover. */
export class Migration {
  readonly #source: Guest
  readonly #destination: Guest
  readonly #socket: string

  constructor(source: Guest, destination: Guest) {
    this.#source = source
    this.#destination = destination
    this.#socket = `/run/guests/${destination.name}/migration.sock`
  }

  async status(): Promise<string> {
    const answer = (await this.#source.ask('query-migrate')) as { status?: string; 'error-desc'?: string }
    const { status = 'none', 'error-desc': words = '' } = answer
    return status === 'failed' ? `failed: ${words}` : status
  }

  /** Runs until pre-switchover: the source is stopped, its state not saved yet. */
  async begin(): Promise<void> {
    const capabilities = [{ capability: 'pause-before-switchover', state: true }]
    await this.#source.ask('migrate-set-capabilities', { capabilities })
    // A loaded guest on a slow host may never have so little left as goes through within the usual 300 ms.
    await this.#source.ask('migrate-set-parameters', { 'downtime-limit': 10_000 })
    await this.#destination.ask('migrate-incoming', { uri: `unix:${this.#socket}` })
    await this.#source.ask('migrate', { uri: `unix:${this.#socket}` })
    await eventually(
      () => this.status(),
      (status) => !['setup', 'active', 'device'].includes(status),
      60,
    )
    const status = await this.status()
    if (status !== 'pre-switchover') throw new Error(`migration: ${status} instead of pre-switchover`)
  }

  /** Switches over; the destination has the VM, running or not as it was. */
  async complete(): Promise<void> {
    await this.#source.ask('migrate-continue', { state: 'pre-switchover' })
    await eventually(
      () => this.status(),
      (status) => status === 'completed',
      60,
    )
  }

  /** Switches over and waits until the destination runs. */
  async finish(): Promise<void> {
    await this.complete()
    await eventually(
      async () => (await this.#destination.ask('query-status')) as { running: boolean },
      ({ running }) => running,
    )
  }

  async cancel(): Promise<void> {
    await this.#source.ask('migrate_cancel')
    await eventually(
      () => this.status(),
      (status) => status === 'cancelled',
    )
  }
}
