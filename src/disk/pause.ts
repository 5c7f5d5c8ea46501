// SPDX-License-Identifier: GPL-2.0-or-later

import { setTimeout as sleep } from 'node:timers/promises'

/** Waits some milliseconds; an aborted signal ends the wait early, with its reason. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted()
  try {
    await sleep(ms, undefined, signal === undefined ? {} : { signal })
  } catch (error) {
    signal?.throwIfAborted()
    throw error
  }
}
