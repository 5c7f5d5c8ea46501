// SPDX-License-Identifier: GPL-2.0-or-later

import { pause } from '../../disk/pause.ts'
import { type MigrationInfo, QmpCommandError, QmpTimeoutError } from '../../qmp/index.ts'
import type { Vm } from '../../vm/vm.ts'
import type { MigrationChannel } from '../channel.ts'
import type { Journal } from '../journal/journal.ts'
import { MemoryPendingError } from '../memory-pending.ts'
import type { Report, Sides } from '../options.ts'
import { OutcomeUnknownError } from '../outcome-unknown.ts'
import { progressOf } from '../progress-of.ts'
import { awaitInfo } from '../status.ts'
import { pauseStream, resumeStream } from './resume.ts'
import { isFollowing } from './states.ts'

const againMs = 1000
const answerMs = 10_000
/** A destination that waits for memory does not answer. */
const shortMs = 1000
const endMs = 30_000
/** As long as something comes it may take its time; the guest waits for what does not. */
const silentMs = 30_000

export interface FollowOptions {
  report: Report
  journal: Journal
  /** How long a way that was cut is made anew again and again. */
  timeoutMs: number
  /** Aborted when the user does not want to wait for that any longer. */
  signal?: AbortSignal | undefined
}

/**
 * Waits until all memory of a VM that runs at the destination has followed it, and returns what the source says last. A way that
 * was cut is made anew. Throws MemoryPendingError when that does not help: the memory is still there, and recover goes
 * on; OutcomeUnknownError when a side is out of reach.
 */
export async function follow(sides: Sides, options: FollowOptions): Promise<MigrationInfo> {
  return await options.report.step('fetching the rest of the memory', async ({ detail }) => {
    const ways = new Ways(sides, options)
    try {
      while (true) {
        const info = await awaitPause(sides, (now) => detail(progressOf(now)))
        if (info.status === 'completed' || (await hasCompleted(sides.destination))) return info
        if (info.status !== 'postcopy-paused') throw await takenBack(sides, info)
        await ways.makeAnother(info)
      }
    } finally {
      await ways.remove()
    }
  })
}

/** The ways that memory has come through, one after another. */
class Ways {
  readonly #sides: Sides
  readonly #options: FollowOptions
  #channel: MigrationChannel | undefined
  #deadline: number | undefined
  #had = ''

  constructor(sides: Sides, options: FollowOptions) {
    this.#sides = sides
    this.#options = options
  }

  async makeAnother({ ram, 'error-desc': why }: MigrationInfo): Promise<void> {
    const { journal, timeoutMs, signal } = this.#options
    const has = `${ram?.transferred}`
    // Whatever has come by the last one gives the next as much time.
    if (this.#deadline === undefined || has !== this.#had) this.#deadline = Date.now() + timeoutMs
    else await pause(againMs)
    this.#had = has
    if (Date.now() >= this.#deadline || signal?.aborted) throw cut(this.#sides, journal, why)
    await this.remove()
    try {
      this.#channel = await resumeStream(this.#sides, journal)
    } catch (error) {
      // The next one may be taken: by a QEMU that refuses this one, or is stopped for a while.
      const isOver = !(error instanceof QmpCommandError || error instanceof QmpTimeoutError)
      if (isOver) throw unheard(this.#sides, error)
    }
  }

  async remove(): Promise<void> {
    await this.#channel?.remove()
    this.#channel = undefined
  }
}

/** Waits until memory follows no more, whether all of it is there or not. Throws OutcomeUnknownError when a side can't be asked. */
async function awaitPause(sides: Sides, watch: (info: MigrationInfo) => void): Promise<MigrationInfo> {
  const { source, destination } = sides
  const silence = new Silence()
  const isOver = (info: MigrationInfo) => {
    silence.hear(info)
    return !isFollowing(info)
  }
  try {
    const info = await awaitInfo(source, isOver, { signal: silence.signal, watch })
    if (info.status === 'completed') await awaitCompleted(destination)
    return info
  } catch (error) {
    if (!silence.signal.aborted) {
      // A source that has nothing any more that is needed may be gone.
      if (await hasCompleted(destination)) return { status: 'completed' }
      throw unheard(sides, error)
    }
  } finally {
    silence.end()
  }
  try {
    await pauseStream(source)
    return await awaitInfo(source, (info) => !isFollowing(info), { signal: AbortSignal.timeout(endMs) })
  } catch (error) {
    throw unheard(sides, error)
  }
}

/** The destination is through a moment later. */
async function awaitCompleted(destination: Vm): Promise<void> {
  const signal = AbortSignal.timeout(endMs)
  await awaitInfo(destination, ({ status }) => status === 'completed', { signal })
}

async function hasCompleted({ qmp }: Vm): Promise<boolean> {
  const info = await qmp.execute('query-migrate', {}, { timeoutMs: shortMs }).catch(() => undefined)
  return info?.status === 'completed'
}

/** Ends a wait in which no figure has changed for a while. */
class Silence {
  readonly #controller = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #heard = ''

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  hear({ status, ram }: MigrationInfo): void {
    const now = `${status} ${ram?.transferred} ${ram?.remaining}`
    if (now === this.#heard) return
    this.#heard = now
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#controller.abort(), silentMs)
  }

  end(): void {
    clearTimeout(this.#timer)
  }
}

/** A source that fails at the very end lets the VM run again, with memory that is older than the disks. */
async function takenBack(
  { source }: Sides,
  { status, 'error-desc': why }: MigrationInfo,
): Promise<OutcomeUnknownError> {
  const words = `${source.name} says that its migration is ${status ?? 'none'}: ${why ?? 'it does not say why'}`
  try {
    await source.qmp.execute('stop', {}, { timeoutMs: answerMs })
    return new OutcomeUnknownError(`${words}; it was stopped`, 'vblk migrate recover', undefined)
  } catch (error) {
    const hint = `end that QEMU: it may run the VM with memory that is older than the disks; then: vblk migrate recover`
    return new OutcomeUnknownError(`${words}; it can't be stopped: ${(error as Error).message}`, hint, error)
  }
}

function cut({ source, destination }: Sides, { record }: Journal, why: unknown): MemoryPendingError {
  return new MemoryPendingError(
    `the VM runs at ${destination.name}, waits for memory that is still at ${source.name}, and the way for it is cut: ${why ?? 'QEMU does not say why'}`,
    `leave both QEMUs as they are; once the way is there again: vblk migrate recover ${record.id}`,
  )
}

function unheard({ source, destination }: Sides, cause: unknown): OutcomeUnknownError {
  if (cause instanceof OutcomeUnknownError) return cause
  return new OutcomeUnknownError(
    `a part of the VM's memory is still at ${source.name}, the VM is at ${destination.name}, and one of them can't be asked: ${(cause as Error).message}`,
    'vblk migrate recover',
    cause,
  )
}
