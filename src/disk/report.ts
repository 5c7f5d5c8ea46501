// SPDX-License-Identifier: GPL-2.0-or-later

/** Who hears how an operation gets on; the commands' progress display is one. */
export interface Report {
  step<R>(title: string, run: () => Promise<R>): Promise<R>
  wait<R>(title: string, run: () => Promise<R>): Promise<R>
  warn(message: string): void
}

/** What every operation on a disk takes. */
export interface OperationOptions {
  /** For all its waiting together. */
  timeoutMs: number
  /** Aborted when the user wants to stop: what was begun is undone. */
  signal: AbortSignal
  report: Report
  /** Checks everything, changes nothing, and returns the commands that it would send. */
  dryRun: boolean
}
