// SPDX-License-Identifier: GPL-2.0-or-later
import { StepError } from './run.ts'
import { ensure } from './stage.ts'
import { everything } from './stages.ts'

const report = (line: string) => process.stderr.write(`${line}\n`)

try {
  await ensure(everything, report)
} catch (error) {
  report(`setup: ${error instanceof StepError ? error.message : ((error as Error).stack ?? error)}`)
  process.exitCode = 1
}
