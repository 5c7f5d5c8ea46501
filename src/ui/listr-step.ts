// SPDX-License-Identifier: GPL-2.0-or-later
import { DefaultRenderer, Listr, ListrLogger, ProcessOutput } from 'listr2'
import type { Step } from './progress.ts'

/** listr2 looks at stdout to see whether it may redraw; the steps are on stderr, and the caller has looked at that. */
class StderrRenderer extends DefaultRenderer {
  static override nonTTY = true
}

/** Runs one step under listr2's renderer on stderr. */
export async function runListrStep<R>(title: string, run: (step: Step) => Promise<R>): Promise<R> {
  const outcome: { value?: R } = {}
  const step = {
    title,
    task: async (_context: unknown, task: { output: string }) => {
      outcome.value = await run({
        detail: (text) => {
          task.output = text
        },
      })
    },
  }
  // Its own SIGINT handler would end the process before a roll-back.
  await new Listr([step], {
    registerSignalListeners: false,
    renderer: StderrRenderer,
    rendererOptions: {
      logger: new ListrLogger({ processOutput: new ProcessOutput(process.stderr, process.stderr) }),
      showErrorMessage: false,
      suffixSkips: false,
    },
  }).run()
  return outcome.value as R
}
