// SPDX-License-Identifier: GPL-2.0-or-later
import type { ExitCode, VblkError } from '../errors.ts'

export interface SuccessEnvelope<T> {
  ok: true
  result: T
  warnings: string[]
}

export interface FailureEnvelope {
  ok: false
  error: {
    /** Stable name for machines, like 'VM_NOT_FOUND'. */
    code: string
    exitCode: ExitCode
    message: string
    /** What the user can do about it; null if there is nothing to say. */
    hint: string | null
    details?: Record<string, unknown>
  }
  warnings: string[]
}

/** The envelope of a finished command. A command without a result reports null. */
export function successEnvelope<T>(result: T, warnings: string[]): SuccessEnvelope<T | null> {
  return { ok: true, result: result ?? null, warnings }
}

/** The envelope of a failed command. */
export function failureEnvelope(error: VblkError, warnings: string[]): FailureEnvelope {
  const { code, exitCode, message, hint, details } = error
  return {
    ok: false,
    error: { code, exitCode, message, hint: hint ?? null, ...(details && { details }) },
    warnings,
  }
}

/**
 * One JSON document on one line. A bigint becomes a number where that is exact and a string of digits elsewhere, because
 * QEMU's 64-bit counters exceed what a JSON reader may assume of numbers.
 */
export function toJsonLine(value: unknown): string {
  return `${JSON.stringify(value, bigintsAsJson)}\n`
}

function bigintsAsJson(_key: string, value: unknown): unknown {
  if (typeof value !== 'bigint') return value
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : value.toString()
}
