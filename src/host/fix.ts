// SPDX-License-Identifier: GPL-2.0-or-later

import { join } from 'node:path'
import type { Check } from './check.ts'
import { packageRoot } from './paths.ts'
import { runTool } from './run-tool.ts'

export interface FixOptions {
  signal: AbortSignal
  timeoutMs: number
  onLine?: (line: string) => void
}

export interface FixOutcome {
  command: string
  exitCode: number
  /** The last lines that it printed. */
  output: string[]
}

/** What a check's advice may begin with to be a command; everything else is advice for a person. */
const programs = /^(vblk|apt-get install|udevadm|chmod|modprobe) /

/** The commands that mend what failed, each once, in the order of the checks. Advice that is no command isn't among them. */
export function fixCommands(checks: readonly Check[]): string[] {
  const fixes = checks.filter(({ status, fix }) => status === 'fail' && fix !== null && programs.test(fix))
  return [...new Set(fixes.map(({ fix }) => fix as string))]
}

/** Runs one of fixCommands' commands to its end, with this very vblk. Throws what runTool throws. */
export async function runFix(command: string, options: FixOptions): Promise<FixOutcome> {
  const vblk = [process.execPath, ...process.execArgv, process.argv[1] ?? join(packageRoot, 'bin/run.js')]
  // The shell gets the program's words as arguments, so that none of them is parsed.
  const functions = `vblk() { ${vblk.map((_, index) => `"\${vblk_${index}}"`).join(' ')} "$@"; }`
  const variables = vblk.map((_, index) => `vblk_${index}=$1; shift`).join('; ')
  const text = `${variables}; ${functions}; ${command.replaceAll('apt-get install', 'apt-get install --yes')}`
  const { exitCode, tail } = await runTool('sh', ['-c', text, 'sh', ...vblk], { ...options, package: 'dash' })
  return { command, exitCode, output: tail }
}
