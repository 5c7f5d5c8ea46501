// SPDX-License-Identifier: GPL-2.0-or-later

import type { EventName, QmpEvent } from '../qmp/index.ts'
import type { Vm } from '../vm/vm.ts'

/** Remembers when a side last announced an event, from now on. */
export class EventTime {
  #last: QmpEvent['timestamp'] | undefined
  readonly #close: () => void

  constructor(vm: Vm, name: EventName) {
    const events = vm.qmp.events(({ event }) => event === name)
    this.#close = () => events.close()
    void this.#follow(events)
  }

  async #follow(events: AsyncIterable<QmpEvent>): Promise<void> {
    try {
      for await (const { timestamp } of events) this.#last = timestamp
    } catch {
      // A lost connection shows wherever something is asked of it.
    }
  }

  get last(): QmpEvent['timestamp'] | undefined {
    return this.#last
  }

  close(): void {
    this.#close()
  }
}

/** Milliseconds, to the microsecond, between two events of QEMUs on one host; null when one is missing or has no time. */
export function millisecondsBetween(
  from: QmpEvent['timestamp'] | undefined,
  to: QmpEvent['timestamp'] | undefined,
): number | null {
  if (from === undefined || to === undefined || Number(from.seconds) < 0 || Number(to.seconds) < 0) return null
  const microseconds = (BigInt(to.seconds) - BigInt(from.seconds)) * 1_000_000n
  return Number(microseconds + BigInt(to.microseconds) - BigInt(from.microseconds)) / 1000
}
