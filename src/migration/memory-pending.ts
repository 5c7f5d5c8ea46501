// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'

/** The VM runs at the destination, and lacks memory that nothing brings any more: both QEMUs are needed until something does. */
export class MemoryPendingError extends VblkError {
  override readonly name = 'MemoryPendingError'

  constructor(message: string, hint: string) {
    super('MEMORY_PENDING', ExitCode.TimedOut, message, { hint })
  }
}
