// SPDX-License-Identifier: GPL-2.0-or-later
import { ExitCode, VblkError } from '../errors.ts'
import { writeStderrLine } from './output.ts'

/** After these nothing is left of what the command did, and why it stopped is all there is to say. */
const leavesNothing: ReadonlySet<ExitCode> = new Set([ExitCode.RolledBack, ExitCode.Interrupted])

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Turns the signals that ask a process to end into one AbortSignal, so that a command can roll back first. */
export class Interruption {
  readonly #controller = new AbortController()
  readonly #handlers = new Map<NodeJS.Signals, () => void>()

  /** Aborted by the first signal; its reason is the error that the command ends with. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  listen(): void {
    for (const name of SIGNALS) {
      const handler = () => this.#receive(name)
      this.#handlers.set(name, handler)
      process.on(name, handler)
    }
  }

  close(): void {
    for (const [name, handler] of this.#handlers) process.off(name, handler)
    this.#handlers.clear()
  }

  /**
   * What a command that failed with this error ends with. A step cut short by the signal, or rolled back because of it, is
   * an interruption; an outcome that is pending or unknown stays what it is, since the user must act on it.
   */
  outcomeOf(error: unknown): unknown {
    const reason = this.signal.reason
    if (!this.signal.aborted || !causedBy(error, reason)) return error
    const tellsMore = error instanceof VblkError && !leavesNothing.has(error.exitCode)
    return tellsMore ? error : reason
  }

  #receive(name: NodeJS.Signals): void {
    if (this.signal.aborted) {
      writeStderrLine(`${name} again: still rolling back, and stopping now would leave the work half done; please wait`)
      return
    }
    writeStderrLine(`${name}: stopping and rolling back`)
    this.#controller.abort(
      new VblkError('INTERRUPTED', ExitCode.Interrupted, `interrupted by ${name} and rolled back`, {
        details: { signal: name },
      }),
    )
  }
}

/** An abort travels as the reason itself, as the `cause` of what it broke, or as the AbortError of Node's own functions. */
function causedBy(error: unknown, reason: unknown): boolean {
  for (let current = error; current instanceof Error; current = current.cause) {
    if (current === reason || current.name === 'AbortError') return true
  }
  return false
}
