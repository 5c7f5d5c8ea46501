// SPDX-License-Identifier: GPL-2.0-or-later

export interface BugWatch {
  /** Rejects when an error escapes all handlers, or when nothing is left that could end the command's wait. */
  seen: Promise<never>
  close(): void
}

/** Without it, an error in an event handler would end the process with Node's own report and exit code. */
export function watchForBugs(): BugWatch {
  let fail: (error: unknown) => void = () => {}
  const seen = new Promise<never>((_, reject) => {
    fail = reject
  })
  seen.catch(() => {})
  const idle = () => fail(new Error('nothing is left to wait for, and the command has not finished'))
  process.on('uncaughtException', fail)
  process.on('unhandledRejection', fail)
  process.on('beforeExit', idle)
  return {
    seen,
    close: () => {
      process.off('uncaughtException', fail)
      process.off('unhandledRejection', fail)
      process.off('beforeExit', idle)
    },
  }
}
