// SPDX-License-Identifier: GPL-2.0-or-later

import { pause } from '../../disk/pause.ts'
import { readVhostState } from '../../disk/vhost-state.ts'
import { ExitCode, VblkError } from '../../errors.ts'
import { sendAll } from '../commands.ts'
import type { Report, Sides } from '../options.ts'
import type { ReadyPlan } from '../plan.ts'
import {
  type CopiedDisk,
  closeCommands,
  copiedDisks,
  copyName,
  endCommand,
  leaveCommands,
  mirrorCommands,
  nbdSocket,
  serveCommands,
  speedOf,
} from './copy.ts'
import { awaitJobs, type Job } from './jobs.ts'

/** What became of the copy of one disk. */
export interface CopiedStorage {
  /** The destination's image. */
  file: string
  /** Copied until the VM stood still, what the guest wrote meanwhile included. */
  bytes: number
  /** Until the copy was the same for the first time. */
  ms: number
}

export interface CopyOptions {
  /** The folder of the migration's channel. */
  channel: string
  /** Bytes per second, for all disks together. */
  bandwidth: number | undefined
  report: Report
  signal: AbortSignal
}

/**
 * Begins to copy the disks whose storage goes along, and waits until each copy is the same; from then on every write of the guest
 * goes to both. Returns how long each took, in milliseconds by the disk's index. Throws VblkError: exit code 5 when QEMU refuses, 7
 * when a copy fails. What it has begun by then is for removeCopies and closeExports to remove.
 */
export async function copyStorage(
  sides: Sides,
  plan: ReadyPlan,
  { channel, bandwidth, report, signal }: CopyOptions,
): Promise<ReadonlyMap<number, number>> {
  const disks = copiedDisks(plan.disks)
  const tookMs = new Map<number, number>()
  if (disks.length === 0) return tookMs
  const socket = nbdSocket(channel)
  return await report.step(`copying the storage of ${disks.map(({ name }) => name).join(', ')}`, async ({ detail }) => {
    const from = performance.now()
    await sendAll(sides, serveCommands(disks, socket), { signal })
    for (const disk of disks) {
      await sendAll(sides, mirrorCommands(disk, socket, speedOf(bandwidth, disks.length)), { signal })
    }
    await requireUserspace(sides, disks, signal)
    const progress = new Progress(disks)
    await awaitJobs(sides.source, disks, 'ready', {
      signal,
      watch: (jobs) => {
        for (const [at, { index }] of disks.entries()) {
          if (jobs[at]?.status === 'ready' && !tookMs.has(index)) tookMs.set(index, performance.now() - from)
        }
        detail(progress.of(jobs))
      },
    })
    await requireUserspace(sides, disks, signal)
    return tookMs
  })
}

const switchMs = 10_000
const pollMs = 50

/** A write that the kernel made would not be copied. The device steps back by itself for a job; this makes sure of it. */
async function requireUserspace(
  { source }: Sides,
  disks: readonly (CopiedDisk & { source: { path: string } })[],
  signal: AbortSignal,
): Promise<void> {
  const deadline = Date.now() + switchMs
  for (const { name, source: disk } of disks) {
    while ((await readVhostState(source, disk.path, { signal }))?.active === true) {
      if (Date.now() > deadline) {
        const why = `${name}: the kernel goes on serving it, so it can't be copied`
        throw new VblkError('BACKEND_RUNNING', ExitCode.RolledBack, why)
      }
      await pause(pollMs, signal)
    }
  }
}

/**
 * Ends the copies while the VM stands still, and lets the destination have its images to itself: each copy is the same as its
 * source then, on both sides' storage. Throws VblkError (exit code 7) if one is not, and what QmpClient.execute throws.
 */
export async function endCopies(sides: Sides, plan: ReadyPlan, signal: AbortSignal): Promise<Job[]> {
  const disks = copiedDisks(plan.disks)
  if (disks.length === 0) return []
  await awaitJobs(sides.source, disks, 'ready', { signal })
  await sendAll(sides, disks.map(endCommand), { signal })
  const jobs = await awaitJobs(sides.source, disks, 'concluded', { signal })
  await sendAll(sides, disks.flatMap(leaveCommands), { signal })
  await sendAll(sides, closeCommands(disks), { signal })
  return jobs
}

/** Copies and what they came to, in the plan's order; undefined for a disk that both sides share. */
export function copiedStorage(
  plan: ReadyPlan,
  tookMs: ReadonlyMap<number, number>,
  jobs: readonly Job[],
): (CopiedStorage | undefined)[] {
  const disks = copiedDisks(plan.disks)
  return plan.disks.map((_, index) => {
    const disk = disks.find((each) => each.index === index)
    if (disk === undefined) return undefined
    const job = jobs.find(({ id }) => id === copyName(disk))
    return { file: disk.copy.file, bytes: Number(job?.['current-progress'] ?? 0), ms: tookMs.get(index) ?? 0 }
  })
}

/** How far the copies are, and how fast they go. */
class Progress {
  readonly #disks: readonly CopiedDisk[]
  #last: { at: number; bytes: number } | undefined
  #rate = 0

  constructor(disks: readonly CopiedDisk[]) {
    this.#disks = disks
  }

  of(jobs: readonly Job[]): string {
    const bytes = jobs.reduce((sum, job) => sum + Number(job['current-progress']), 0)
    const now = performance.now()
    const seconds = this.#last === undefined ? 0 : (now - this.#last.at) / 1000
    // Over a second, so that it can be read.
    if (this.#last === undefined || seconds >= 1) {
      if (this.#last !== undefined) this.#rate = Math.max(0, bytes - this.#last.bytes) / seconds
      this.#last = { at: now, bytes }
    }
    const parts = jobs.map((job, at) => {
      const [done, total] = [job['current-progress'], job['total-progress']].map((each) => mebibytes(Number(each)))
      return `${this.#disks[at]?.name} ${done} of ${total} MiB`
    })
    return [...parts, ...(this.#rate > 0 ? [`${mebibytes(this.#rate)} MiB/s`] : [])].join(', ')
  }
}

const mebibytes = (bytes: number): number => Math.round(bytes / 2 ** 20)
