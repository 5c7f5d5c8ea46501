// SPDX-License-Identifier: GPL-2.0-or-later
// Two QEMUs for a migration, and what must be as before when one has failed.

import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from '@jest/globals'
import type { DryRun } from '../../src/migration/migrate.ts'
import type { MigratedVm } from '../../src/migration/result.ts'
import { makeFolder, makeImage, Qemu, type QemuOptions, removeFolder, type State, startVblk, vblk } from './qemu.ts'

export type Migrated = MigratedVm & Partial<DryRun>

/** All that a failed migration must leave as it was. */
export interface Full extends State {
  status: string
  capabilities: string[]
  parameters: unknown
}

export async function fullState(qemu: Qemu): Promise<Full> {
  const capabilities = await qemu.qmp.execute('query-migrate-capabilities')
  return {
    ...(await qemu.state()),
    status: (await qemu.qmp.execute('query-status')).status,
    capabilities: capabilities.filter(({ state }) => state).map(({ capability }) => capability),
    parameters: await qemu.qmp.execute('query-migrate-parameters'),
  }
}

/** A folder of its own for sockets, images, and what vblk makes in the temporary folder. */
export class Bench {
  readonly dir: string
  readonly #qemus: Qemu[] = []
  readonly #outerTmp = process.env.TMPDIR
  #count = 0

  private constructor(dir: string) {
    this.dir = dir
  }

  static async create(): Promise<Bench> {
    const bench = new Bench(await makeFolder())
    await mkdir(bench.#tmp)
    process.env.TMPDIR = bench.#tmp
    process.env.VBLK_STATE_DIR = join(bench.dir, 'state')
    return bench
  }

  get #tmp(): string {
    return join(this.dir, 'tmp')
  }

  image(name: string, bytes?: number): Promise<string> {
    return makeImage(join(this.dir, name), bytes)
  }

  async start(options: QemuOptions = {}): Promise<Qemu> {
    const qemu = await Qemu.start(this.dir, `q${++this.#count}`, options)
    this.#qemus.push(qemu)
    return qemu
  }

  /** A QEMU that waits for a migration. */
  incoming(options: QemuOptions = {}): Promise<Qemu> {
    return this.start({ ...options, args: [...(options.args ?? []), '-incoming', 'defer'] })
  }

  /** A VM with a disk d1 of an image. */
  async source(image: string, attach: string[] = [], args: string[] = []): Promise<Qemu> {
    const qemu = await this.start({ args })
    await attachDisk(qemu, 'd1', image, ...attach)
    return qemu
  }

  /** Arguments for source and destination that make a migration long: memory without zeroes, to be sent slowly. */
  async muchMemory(): Promise<{ here: string[]; there: string[] }> {
    const bytes = 64 << 20
    const file = join(this.dir, `memory${++this.#count}`)
    await writeFile(file, Buffer.alloc(bytes, 'not zero'))
    const backend = ['-machine', 'memory-backend=ram', '-object']
    return {
      here: [...backend, `memory-backend-file,id=ram,size=${bytes},mem-path=${file},share=off`],
      there: [...backend, `memory-backend-ram,id=ram,size=${bytes}`],
    }
  }

  /** The names of what vblk has left in the temporary folder. */
  async leftovers(): Promise<string[]> {
    return (await readdir(this.#tmp)).filter((name) => name.startsWith('vblk'))
  }

  /** Takes away what a QEMU listens at for a stream. */
  async removeSockets(): Promise<void> {
    for (const name of await this.leftovers()) await rm(join(this.#tmp, name, 'migrate.sock'), { force: true })
  }

  /** Ends all QEMUs, but one to keep. */
  async stopAll(kept?: Qemu): Promise<void> {
    for (const qemu of this.#qemus.splice(0)) {
      if (qemu === kept) this.#qemus.push(qemu)
      else await qemu.stop()
    }
  }

  async remove(): Promise<void> {
    await this.stopAll()
    delete process.env.VBLK_STATE_DIR
    if (this.#outerTmp === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = this.#outerTmp
    await removeFolder(this.dir)
  }
}

export async function attachDisk(qemu: Qemu, id: string, image: string, ...options: string[]): Promise<void> {
  const { envelope } = await vblk(['attach', qemu.socket, image, '--id', id, '--datapath', 'auto', ...options])
  expect(envelope).toMatchObject({ ok: true })
}

export const migrate = (from: string, to: string, ...options: string[]) =>
  vblk<Migrated>(['migrate', from, to, ...options])
export const startMigrate = (from: string, to: string, ...options: string[]) =>
  startVblk<Migrated>(['migrate', from, to, ...options])

/** Whether a QEMU's process has ended, or does within a few seconds. */
export async function hasEnded(qemu: Qemu): Promise<boolean> {
  const ended = () => qemu.process.exitCode !== null || qemu.process.signalCode !== null
  for (let i = 0; i < 50 && !ended(); i++) await new Promise((resolve) => setTimeout(resolve, 100))
  return ended()
}

/** Waits until the firmware's driver uses a disk; it negotiates no flush, so that QEMU makes its write cache writethrough. */
export async function firmwareDrives(qemu: Qemu, id: string): Promise<void> {
  const path = `/machine/peripheral/${id}`
  for (let i = 0; i < 200; i++) {
    if ((await qemu.qmp.execute('qom-get', { path, property: 'current-write-cache' })) === false) return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error(`the firmware does not drive ${id}`)
}
