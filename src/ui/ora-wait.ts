// SPDX-License-Identifier: GPL-2.0-or-later
import ora from 'ora'
import type { Step } from './progress.ts'

/** Runs the function under a spinner on stderr, which is a terminal. */
export async function runOraWait<R>(title: string, run: (step: Step) => Promise<R>): Promise<R> {
  // discardStdin would swallow Ctrl-C; hideCursor would need its own exit handler to be undone after a signal.
  const spinner = ora({ text: title, stream: process.stderr, discardStdin: false, hideCursor: false }).start()
  try {
    const value = await run({
      detail: (text) => {
        spinner.text = `${title}: ${text}`
      },
    })
    spinner.succeed(title)
    return value
  } catch (error) {
    spinner.fail(title)
    throw error
  }
}
