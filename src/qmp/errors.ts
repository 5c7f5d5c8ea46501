// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError, type VblkErrorOptions } from '../errors.ts'
import type { Json } from './json.ts'

/** Every failure of the QMP client is one of these. */
export class QmpError extends VblkError {
  override readonly name: string = 'QmpError'
}

/** There is no socket to talk to, or nobody on it takes the connection. */
export class QmpConnectError extends QmpError {
  override readonly name = 'QmpConnectError'
}

/** Something took the connection, but it doesn't greet as a QMP monitor. */
export class QmpGreetingError extends QmpError {
  override readonly name = 'QmpGreetingError'

  constructor(path: string, why: string, options: VblkErrorOptions = {}) {
    super('NOT_QMP', ExitCode.NotFound, `${path} is not a QMP socket: ${why}`, {
      hint: "give the socket of QEMU's -qmp or -mon mode=control option",
      ...options,
    })
  }
}

/** The monitor greeted and then refused to leave capabilities negotiation. */
export class QmpNegotiationError extends QmpError {
  override readonly name = 'QmpNegotiationError'

  constructor(path: string, cause: Error) {
    super('QMP_NEGOTIATION_FAILED', ExitCode.Refused, `${path}: QMP negotiation failed: ${cause.message}`, { cause })
  }
}

export interface QmpRequest {
  execute: string
  arguments?: unknown
}

/** QEMU answered a command with an error. */
export class QmpCommandError extends QmpError {
  override readonly name = 'QmpCommandError'
  /** The QAPI error class, like 'GenericError' or 'DeviceNotFound'. */
  readonly errorClass: string
  /** QEMU's own words. */
  readonly desc: string
  readonly request: QmpRequest
  /** The reply as it came. */
  readonly reply: Json

  constructor(request: QmpRequest, errorClass: string, desc: string, reply: Json) {
    super('QMP_COMMAND_FAILED', ExitCode.Refused, `QEMU refused ${request.execute}: ${desc}`, {
      details: { class: errorClass, desc, command: request.execute },
    })
    this.errorClass = errorClass
    this.desc = desc
    this.request = request
    this.reply = reply
  }
}

/** No answer in time. The command may still run: QEMU executes what it has read. */
export class QmpTimeoutError extends QmpError {
  override readonly name = 'QmpTimeoutError'

  constructor(what: string, timeoutMs: number) {
    super('QMP_TIMEOUT', ExitCode.TimedOut, `QEMU gave no answer to ${what} within ${timeoutMs / 1000} s`, {
      hint: 'it may still carry it out; ask again with "vblk list"',
    })
  }
}

/** The caller's signal was aborted while it waited. The command may still run. */
export class QmpInterruptedError extends QmpError {
  override readonly name = 'QmpInterruptedError'

  constructor(what: string, cause: unknown) {
    super('INTERRUPTED', ExitCode.Interrupted, `interrupted while waiting for ${what}`, { cause })
  }
}

/** The connection ended while it was in use: QEMU exited or was killed, or it dropped us. */
export class QmpConnectionLostError extends QmpError {
  override readonly name: string = 'QmpConnectionLostError'

  constructor(path: string, why: string, options: VblkErrorOptions = {}) {
    super('QMP_CONNECTION_LOST', ExitCode.Unknown, `${path}: lost the connection to QEMU: ${why}`, {
      hint: 'if this VM still runs, "vblk list" shows what it has now',
      ...options,
    })
  }
}

/** The peer sent what QMP doesn't allow, or a reply without the shape that QAPI promises. */
export class QmpProtocolError extends QmpError {
  override readonly name = 'QmpProtocolError'

  constructor(path: string, why: string, options: VblkErrorOptions = {}) {
    super('QMP_PROTOCOL', ExitCode.Unknown, `${path}: QEMU broke the QMP protocol: ${why}`, options)
  }
}

/** More events than the stream holds arrived before anyone read them. */
export class QmpEventOverflowError extends QmpError {
  override readonly name = 'QmpEventOverflowError'

  constructor(limit: number) {
    super('QMP_EVENT_OVERFLOW', ExitCode.Unknown, `more than ${limit} QMP events arrived unread; some were dropped`)
  }
}

/** A call that the client's runstate doesn't allow: a bug in the caller. */
export class QmpStateError extends QmpError {
  override readonly name = 'QmpStateError'

  constructor(call: string, runstate: string) {
    super('QMP_STATE', ExitCode.Bug, `QMP client: ${call} is not possible while ${runstate}`)
  }
}
