// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'

/** One signal for the user's wish to stop and for the end of the time. */
export class Deadline {
  readonly signal: AbortSignal
  readonly #timeout: AbortSignal
  readonly timeoutMs: number
  /** The user's wish alone. */
  readonly user: AbortSignal

  constructor(timeoutMs: number, user: AbortSignal) {
    this.timeoutMs = timeoutMs
    this.user = user
    this.#timeout = AbortSignal.timeout(timeoutMs)
    this.signal = AbortSignal.any([user, this.#timeout])
  }

  /** What a step that was cut short by the end of the time failed of; any other error as it is. */
  explain(error: unknown): unknown {
    if (!this.#timeout.aborted || this.user.aborted) return error
    return new VblkError(
      'MIGRATION_TIMED_OUT',
      ExitCode.RolledBack,
      `the migration did not come to its end within ${this.timeoutMs / 1000} s`,
      { cause: error, hint: 'give it a longer --timeout, more --bandwidth or a longer --downtime-limit' },
    )
  }
}
