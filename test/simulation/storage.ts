// SPDX-License-Identifier: GPL-2.0-or-later
// The images of a model of QEMU, and the job and the NBD export that copy one to another.

import { closeSync, existsSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type Json, type QemuModel, Refusal } from './qemu.ts'

type Arguments = Record<string, Json>

/** What a QEMU knows of its disk's contents and of their way to another image. */
export class Storage {
  /** What the disk's image holds: the number of the guest's last write. */
  contents = 0
  /** The socket of its NBD server. */
  server: string | undefined
  isExported = false
  /** The other end of its NBD node. */
  target: QemuModel | undefined
  job: { id: string; status: 'running' | 'ready' | 'concluded'; error?: string } | undefined

  /** The nodes that QEMU adds for its jobs. */
  get filters(): string[] {
    return this.job === undefined || this.job.status === 'concluded' ? [] : ['vblk-mirror-0']
  }

  get hasNothing(): boolean {
    return this.server === undefined && this.target === undefined && this.job === undefined
  }

  /** The QEMU that it writes to has ended. */
  fail(error: string): void {
    if (this.job === undefined || this.job.status === 'concluded') return
    this.job = { ...this.job, status: 'concluded', error }
  }
}

/** The commands of a copy; `fails` is a fault of the target's image, which the source hears of at the end. */
export function storageHandlers(
  qemu: QemuModel,
  network: Map<string, QemuModel>,
  setActive: (active: boolean) => void,
  fails: () => boolean,
): Record<string, (args: Arguments) => Json> {
  const { storage } = qemu
  return {
    'nbd-server-start': ({ addr }) => {
      if (storage.server !== undefined) throw new Refusal('NBD server already running')
      storage.server = ((addr as Arguments).data as Arguments).path as string
      // Beside a real QEMU (model.test.ts) it is there.
      if (!existsSync(storage.server)) writeFileSync(storage.server, '')
      network.set(storage.server, qemu)
      return {}
    },
    'nbd-server-stop': () => {
      if (storage.server === undefined) throw new Refusal('NBD server not running')
      rmSync(storage.server, { force: true })
      network.delete(storage.server)
      storage.server = undefined
      storage.isExported = false
      return {}
    },
    'block-export-add': () => {
      if (storage.server === undefined) throw new Refusal('NBD server not running')
      storage.isExported = true
      setActive(true)
      return {}
    },
    'blockdev-mirror': (args) => {
      if (storage.target === undefined) throw new Refusal('Cannot find device')
      storage.job = { id: args['job-id'] as string, status: 'running' }
      setImmediate(() => {
        if (storage.job?.status === 'running') storage.job = { ...storage.job, status: 'ready' }
      })
      return {}
    },
    'query-jobs': () =>
      storage.job === undefined
        ? []
        : [{ type: 'mirror', 'current-progress': 1 << 20, 'total-progress': 1 << 20, ...storage.job }],
    'block-job-cancel': ({ force }) => {
      const { job, target } = storage
      if (job === undefined || job.status === 'concluded') throw new Refusal('Job not found')
      if (force === true || job.status !== 'ready')
        storage.job = { ...job, status: 'concluded', error: 'Operation canceled' }
      else if (fails()) storage.job = { ...job, status: 'concluded', error: 'Input/output error' }
      else {
        if (target !== undefined) target.storage.contents = storage.contents
        storage.job = { ...job, status: 'concluded' }
      }
      return {}
    },
    'job-dismiss': () => {
      if (storage.job?.status !== 'concluded') throw new Refusal('Job not found')
      storage.job = undefined
      return {}
    },
  }
}

/** A file of a size without contents, until this process ends. */
export function emptyImage(bytes: number): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'simulation-'))
  process.once('exit', () => rmSync(dir, { recursive: true, force: true }))
  const file = path.join(dir, 'copy.raw')
  const fd = openSync(file, 'w')
  ftruncateSync(fd, bytes)
  closeSync(fd)
  return file
}
