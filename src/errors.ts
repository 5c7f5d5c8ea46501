// SPDX-License-Identifier: GPL-2.0-or-later

/** What a finished command tells its caller. Part of the interface: a member never changes its number. */
export const ExitCode = {
  Ok: 0,
  /** A bug in vblk. */
  Bug: 1,
  Usage: 2,
  /** VM, disk or file not found. */
  NotFound: 3,
  /** This host or its QEMU lacks something; the message names what mends it. */
  HostLacks: 4,
  /** Refused by QEMU or the guest, or what exists differs from what was asked. */
  Refused: 5,
  /** Still pending after the time allowed; the message says how to ask again. */
  TimedOut: 6,
  /** Failed, and rolled back to the state before. */
  RolledBack: 7,
  /** Outcome unknown. */
  Unknown: 8,
  /** Another vblk, client or job holds this VM. */
  Busy: 9,
  /** Stopped by a signal, and rolled back. */
  Interrupted: 130,
} as const

export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode]

export interface VblkErrorOptions {
  /** What the user can do about it: one line, best a command. */
  hint?: string
  cause?: unknown
  details?: Record<string, unknown>
}

/** A failure that the user can act on. What is thrown and isn't one of these is a bug in vblk. */
export class VblkError extends Error {
  override readonly name: string = 'VblkError'
  /** Stable name for machines, like 'VM_NOT_FOUND'. */
  readonly code: string
  readonly exitCode: ExitCode
  readonly hint: string | undefined
  readonly details: Record<string, unknown> | undefined

  constructor(code: string, exitCode: ExitCode, message: string, options: VblkErrorOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.code = code
    this.exitCode = exitCode
    this.hint = options.hint
    this.details = options.details
  }
}
