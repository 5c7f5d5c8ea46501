// SPDX-License-Identifier: GPL-2.0-or-later

import type { QmpEvent } from '../qmp/index.ts'
import { hostOf } from './hosts/host-of.ts'
import type { Side, Sides } from './options.ts'

/** What ends each phase of the downtime, in the order of time; `STOP` begins the first. */
const marks = ['stopped', 'drained', 'checked', 'saved', 'loaded', 'verified', 'running'] as const
type Mark = (typeof marks)[number]

/**
 * The parts of the downtime, in milliseconds, one after another; their sum is the downtime. Drain: QEMU ends what its block
 * layer has in flight. Check: vblk asks QEMU and the kernel whether every backend has stopped. Save: device state is saved
 * and sent. Load: what the destination still needs then. Verify: vblk compares the write caches and writes the journal.
 * Start: the destination takes the images and lets the VM run.
 */
export type DowntimePhases = Record<(typeof downtimePhases)[number], number>

export const downtimePhases = ['drain', 'check', 'save', 'load', 'verify', 'start'] as const

export interface Downtime {
  /** From the source's STOP event to the destination's RESUME event. */
  totalMs: number
  /** Null if a QEMU did not tell enough. */
  phases: DowntimePhases | null
}

/** Which moment an event tells; QEMU's state `device` begins when it is told to go on from pre-switchover. */
function markOf(side: Side, { event, data }: QmpEvent): Mark | undefined {
  if (event === 'STOP') return side === 'source' ? 'stopped' : undefined
  if (event === 'RESUME') return side === 'destination' ? 'running' : undefined
  if (event !== 'MIGRATION') return undefined
  if (data.status === 'completed' || data.status === 'postcopy-active') return side === 'source' ? 'saved' : 'loaded'
  if (side === 'destination') return undefined
  if (data.status === 'pre-switchover') return 'drained'
  return data.status === 'device' ? 'checked' : undefined
}

/**
 * When both sides of a migration announced its moments, by the clock of their host. Two hosts have two clocks: then it counts when
 * vblk heard of it.
 */
export class DowntimeClock {
  readonly #at = new Map<Mark, bigint>()
  /** Of postcopy, where the end of the migration comes much later. */
  readonly #early = new Set<Mark>()
  readonly #close: (() => void)[] = []
  #byArrival = false

  /** Listens from now on, until it is closed. */
  follow(sides: Sides): void {
    this.#byArrival = hostOf(sides.destination) !== undefined
    for (const side of ['source', 'destination'] as const) {
      const events = sides[side].qmp.events((event) => markOf(side, event) !== undefined)
      this.#close.push(() => events.close())
      void this.#listen(side, events)
    }
  }

  async #listen(side: Side, events: AsyncIterable<QmpEvent>): Promise<void> {
    try {
      for await (const event of events) this.see(side, event)
    } catch {
      // A lost connection shows wherever something is asked of it.
    }
  }

  /** Takes notice of one event. */
  see(side: Side, event: QmpEvent): void {
    const mark = markOf(side, event)
    const at = this.#byArrival ? BigInt(Date.now()) * 1000n : microseconds(event.timestamp)
    if (mark === undefined) return
    if (this.#early.has(mark)) return
    if (event.event === 'MIGRATION' && event.data.status === 'postcopy-active') this.#early.add(mark)
    if (at === undefined) this.#at.delete(mark)
    else this.#at.set(mark, at)
  }

  /** The destination is as it must be, and is told to run now: the one moment that no QEMU announces. */
  verified(): void {
    this.#at.set('verified', BigInt(Date.now()) * 1000n)
  }

  /** Null while one of its ends is unknown. */
  get downtime(): Downtime | null {
    const [from, to] = [this.#at.get('stopped'), this.#at.get('running')]
    if (from === undefined || to === undefined || to < from) return null
    return { totalMs: Number(to - from) / 1000, phases: this.#phases(from, to) }
  }

  #phases(from: bigint, to: bigint): DowntimePhases | null {
    let before = from
    const lengths: [string, number][] = []
    for (const [index, phase] of downtimePhases.entries()) {
      const told = this.#at.get(marks[index + 1] as Mark)
      if (told === undefined) return null
      // What was there before the phase began, took no time in it.
      const at = told < before ? before : told > to ? to : told
      lengths.push([phase, Number(at - before) / 1000])
      before = at
    }
    return Object.fromEntries(lengths) as DowntimePhases
  }

  close(): void {
    for (const close of this.#close) close()
  }
}

/** Undefined if QEMU could not read its clock. */
function microseconds({ seconds, microseconds }: QmpEvent['timestamp']): bigint | undefined {
  const isTime = Number.isSafeInteger(Number(seconds)) && Number.isSafeInteger(Number(microseconds))
  if (!isTime || Number(seconds) < 0 || Number(microseconds) < 0) return undefined
  return BigInt(seconds) * 1_000_000n + BigInt(microseconds)
}
