// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'

/** Nobody can tell from here which side owns the disks: neither may be started before someone has looked. */
export class OutcomeUnknownError extends VblkError {
  override readonly name = 'OutcomeUnknownError'

  constructor(message: string, hint: string, cause: unknown) {
    super('OUTCOME_UNKNOWN', ExitCode.Unknown, message, { hint, cause })
  }
}
