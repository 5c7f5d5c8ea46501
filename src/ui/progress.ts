// SPDX-License-Identifier: GPL-2.0-or-later

import { writeStderrLine } from './output.ts'
import { printable } from './printable.ts'

/** A step under way. */
export interface Step {
  /** Shows where the step is: a percentage, what it waits for. */
  detail(text: string): void
}

/** What a command tells the person who waits for it, on stderr. */
export interface Progress {
  /** Runs the function and shows it as a step under this title. Its value or error is passed on. */
  step<R>(title: string, run: (step: Step) => Promise<R>): Promise<R>
  /** Like step, for a wait on something outside: the VM, the guest, a timer. */
  wait<R>(title: string, run: (step: Step) => Promise<R>): Promise<R>
  info(message: string): void
  /** Shown even with --quiet, and part of the JSON envelope. */
  warn(message: string): void
}

export interface ProgressOptions {
  quiet: boolean
  /** Traffic is printed in between: a line may be written at any time, so nothing may be redrawn. */
  verbose: boolean
  warnings: string[]
}

/** Redraws on a terminal, prints a line per step elsewhere, and shows only warnings when quiet. */
export function createProgress({ quiet, verbose, warnings }: ProgressOptions): Progress {
  if (quiet) return new QuietProgress(warnings)
  return process.stderr.isTTY && !verbose ? new TerminalProgress(warnings) : new LineProgress(warnings)
}

class QuietProgress implements Progress {
  readonly #warnings: string[]

  constructor(warnings: string[]) {
    this.#warnings = warnings
  }

  async step<R>(_title: string, run: (step: Step) => Promise<R>): Promise<R> {
    return run({ detail: () => {} })
  }

  async wait<R>(title: string, run: (step: Step) => Promise<R>): Promise<R> {
    return this.step(title, run)
  }

  info(_message: string): void {}

  warn(message: string): void {
    this.#warnings.push(message)
    writeStderrLine(`Warning: ${printable(message)}`)
  }
}

class LineProgress extends QuietProgress {
  override async step<R>(title: string, run: (step: Step) => Promise<R>): Promise<R> {
    writeStderrLine(`- ${printable(title)}`)
    return super.step(title, run)
  }

  override info(message: string): void {
    writeStderrLine(printable(message))
  }
}

class TerminalProgress extends QuietProgress {
  /** Two renderers would overwrite each other: what starts during a step is shown as that step's detail. */
  #current: Step | undefined

  override async step<R>(title: string, run: (step: Step) => Promise<R>): Promise<R> {
    if (this.#current) return this.#nested(title, run)
    const { runListrStep } = await import('./listr-step.ts')
    return runListrStep(printable(title), (step) => this.#asCurrent(step, run))
  }

  override async wait<R>(title: string, run: (step: Step) => Promise<R>): Promise<R> {
    if (this.#current) return this.#nested(title, run)
    const { runOraWait } = await import('./ora-wait.ts')
    return runOraWait(printable(title), (step) => this.#asCurrent(step, run))
  }

  override info(message: string): void {
    writeStderrLine(printable(message))
  }

  async #nested<R>(title: string, run: (step: Step) => Promise<R>): Promise<R> {
    const outer = this.#current
    outer?.detail(title)
    return run({ detail: (text) => outer?.detail(`${title}: ${text}`) })
  }

  async #asCurrent<R>(step: Step, run: (step: Step) => Promise<R>): Promise<R> {
    this.#current = { detail: (text) => step.detail(printable(text)) }
    try {
      return await run(this.#current)
    } finally {
      this.#current = undefined
    }
  }
}
