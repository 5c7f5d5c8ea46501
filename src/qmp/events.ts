// SPDX-License-Identifier: GPL-2.0-or-later

import { QmpEventOverflowError } from './errors.ts'
import type { QmpEvent } from './protocol.ts'
import { type WaitOptions, waitFor } from './waiting.ts'

interface Waiter {
  resolve(event: QmpEvent | undefined): void
  reject(error: Error): void
}

/**
 * The events of one subscription, kept from the moment of subscribing until read: subscribe before the command whose
 * events are awaited, and none is missed. Bounded: reading after an overflow throws instead of skipping unseen.
 */
export class EventStream implements AsyncIterable<QmpEvent> {
  readonly #filter: (event: QmpEvent) => boolean
  readonly #limit: number
  readonly #onClose: (stream: EventStream) => void
  readonly #buffer: QmpEvent[] = []
  readonly #waiters: Waiter[] = []
  #end: { error: Error | undefined } | undefined

  constructor(filter: (event: QmpEvent) => boolean, limit: number, onClose: (stream: EventStream) => void) {
    this.#filter = filter
    this.#limit = limit
    this.#onClose = onClose
  }

  /**
   * The next event, or undefined when the stream was closed. Throws QmpTimeoutError, QmpInterruptedError,
   * QmpEventOverflowError, and QmpConnectionLostError once what arrived before the loss has been read.
   */
  async next(options: WaitOptions = {}): Promise<QmpEvent | undefined> {
    const event = this.#buffer.shift()
    if (event !== undefined) return event
    if (this.#end !== undefined) {
      if (this.#end.error !== undefined) throw this.#end.error
      return undefined
    }
    let waiter!: Waiter
    const arrival = new Promise<QmpEvent | undefined>((resolve, reject) => {
      waiter = { resolve, reject }
      this.#waiters.push(waiter)
    })
    try {
      return await waitFor(arrival, 'an event', options)
    } finally {
      // A waiter that gave up must not swallow the next event.
      const index = this.#waiters.indexOf(waiter)
      if (index !== -1) this.#waiters.splice(index, 1)
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<QmpEvent, void, undefined> {
    try {
      for (let event = await this.next(); event !== undefined; event = await this.next()) yield event
    } finally {
      this.close()
    }
  }

  /** Ends the subscription; what is buffered can still be read. */
  close(): void {
    this.finish(undefined)
  }

  /** For the client: offers an event to the subscription. */
  offer(event: QmpEvent): void {
    if (this.#end !== undefined || !this.#filter(event)) return
    const waiter = this.#waiters.shift()
    if (waiter !== undefined) waiter.resolve(event)
    else if (this.#buffer.length < this.#limit) this.#buffer.push(event)
    else this.finish(new QmpEventOverflowError(this.#limit))
  }

  /** For the client: ends the stream, with an error that its readers shall see. */
  finish(error: Error | undefined): void {
    if (this.#end !== undefined) return
    this.#end = { error }
    for (const waiter of this.#waiters.splice(0)) {
      if (error === undefined) waiter.resolve(undefined)
      else waiter.reject(error)
    }
    this.#onClose(this)
  }
}
