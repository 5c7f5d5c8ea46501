// SPDX-License-Identifier: GPL-2.0-or-later

import { setMaxListeners } from 'node:events'
import { QmpInterruptedError, QmpTimeoutError } from './errors.ts'

export interface WaitOptions {
  /** Milliseconds; without it the wait has no end of its own. */
  timeoutMs?: number | undefined
  signal?: AbortSignal | undefined
}

/**
 * Settles as the given promise does, or earlier: with QmpTimeoutError or QmpInterruptedError, whose text names what was
 * waited for. The promise itself goes on; its late result is dropped.
 */
export function waitFor<T>(promise: Promise<T>, what: string, { timeoutMs, signal }: WaitOptions): Promise<T> {
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined
    const onAbort = () => settle(() => reject(new QmpInterruptedError(what, signal?.reason)))
    const settle = (how: () => void) => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      how()
    }
    promise.then(
      (value) => settle(() => resolve(value)),
      (error) => settle(() => reject(error)),
    )
    if (signal?.aborted) return onAbort()
    if (signal) {
      // Node warns of a leak from the eleventh listener on, and any number of commands may wait at once.
      setMaxListeners(0, signal)
      signal.addEventListener('abort', onAbort, { once: true })
    }
    if (timeoutMs !== undefined) {
      timer = setTimeout(() => settle(() => reject(new QmpTimeoutError(what, timeoutMs))), timeoutMs)
    }
  })
}
