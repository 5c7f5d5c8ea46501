// SPDX-License-Identifier: GPL-2.0-or-later

import { VblkError } from '../errors.ts'
import { QmpError } from '../qmp/index.ts'

/** One thing that stands in a migration's way. */
export interface Finding {
  code: string
  exitCode: number
  message: string
  hint: string | null
}

/** What stands in a migration's way, kept together so that it is told all at once. */
export class Findings {
  readonly #found: VblkError[] = []

  /** Makes one check. What it refuses is kept, and undefined returned; a failure to ask QEMU is thrown at once. */
  async attempt<T>(check: () => T | Promise<T>): Promise<T | undefined> {
    try {
      return await check()
    } catch (error) {
      if (!(error instanceof VblkError) || error instanceof QmpError) throw error
      this.#found.push(error)
      return undefined
    }
  }

  /** Throws what was found: the one thing itself, or VblkError NOT_MIGRATABLE with all of it and the first one's exit code. */
  throwIfAny(): void {
    const [first, ...rest] = this.#found
    if (first === undefined) return
    if (rest.length === 0) throw first
    const findings: Finding[] = this.#found.map(({ code, exitCode, message, hint }) => ({
      code,
      exitCode,
      message,
      hint: hint ?? null,
    }))
    throw new VblkError(
      'NOT_MIGRATABLE',
      first.exitCode,
      `${findings.length} things stand in the way: ${findings.map(({ message }) => message).join('; ')}`,
      { ...(first.hint !== undefined && { hint: first.hint }), details: { findings } },
    )
  }
}
