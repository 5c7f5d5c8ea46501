// SPDX-License-Identifier: GPL-2.0-or-later

import { pause } from '../../disk/pause.ts'
import { ExitCode, VblkError } from '../../errors.ts'
import { type MigrationInfo, QmpCommandError } from '../../qmp/index.ts'
import type { Vm } from '../../vm/vm.ts'
import type { MigrationChannel } from '../channel.ts'
import type { Journal } from '../journal/journal.ts'
import type { Report, Sides } from '../options.ts'
import { OutcomeUnknownError } from '../outcome-unknown.ts'
import { progressOf } from '../progress-of.ts'
import { awaitInfo } from '../status.ts'
import { pauseStream, resumeStream } from './resume.ts'
import { isFollowing } from './states.ts'

const mostAttempts = 3
const againMs = 1000
const answerMs = 10_000
const endMs = 30_000
/** As long as something comes it may take its time; the guest waits for what does not. */
const silentMs = 30_000

/**
 * Waits until all memory of a VM that runs at the destination has followed it, and returns what the source says last. A way that
 * was cut is made anew a few times. Throws VblkError (exit code 6) when that does not help: the memory is still there, and recover goes
 * on; OutcomeUnknownError when a side is out of reach.
 */
export async function follow(sides: Sides, report: Report, journal: Journal): Promise<MigrationInfo> {
  return await report.step('fetching the rest of the memory', async ({ detail }) => {
    const watch = (info: MigrationInfo) => detail(progressOf(info))
    let channel: MigrationChannel | undefined
    let last: unknown
    try {
      for (let attempt = 0; ; attempt++) {
        const info = await awaitPause(sides, watch)
        if (info.status === 'completed') return info
        if (await hasCompleted(sides.destination)) return info
        if (info.status !== 'postcopy-paused') throw await takenBack(sides, info)
        if (attempt === mostAttempts) throw cut(sides, journal, last ?? info['error-desc'])
        if (attempt > 0) await pause(againMs)
        await channel?.remove()
        channel = undefined
        channel = await resumeStream(sides, journal).catch((error) => {
          if (!(error instanceof QmpCommandError)) throw unheard(sides, error)
          last = error.message
          return undefined
        })
      }
    } finally {
      await channel?.remove()
    }
  })
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
  // One that waits for memory may not answer.
  const info = await qmp.execute('query-migrate', {}, { timeoutMs: answerMs }).catch(() => undefined)
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

function cut({ source, destination }: Sides, { record }: Journal, why: unknown): VblkError {
  return new VblkError(
    'MEMORY_PENDING',
    ExitCode.TimedOut,
    `the VM runs at ${destination.name}, waits for memory that is still at ${source.name}, and the way for it is cut: ${why ?? 'QEMU does not say why'}`,
    { hint: `leave both QEMUs as they are; once the way is there again: vblk migrate recover ${record.id}` },
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
