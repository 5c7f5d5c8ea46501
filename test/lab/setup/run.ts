// SPDX-License-Identifier: GPL-2.0-or-later
import { join } from 'node:path'
import { execa } from 'execa'
import { top } from './paths.ts'

/** A build step of another program failed; the message ends with what it printed. */
export class StepError extends Error {
  override name = 'StepError'
}

/**
 * Runs a program of this machine for a build step, its output kept for the failure.
 *
 * @returns its standard output
 * @throws StepError with the last lines of its output
 */
export async function run(file: string, args: string[], options: { cwd?: string; env?: Record<string, string> } = {}) {
  const result = await execa(file, args, { cwd: top, stdin: 'ignore', all: true, reject: false, ...options })
  if (result.failed) {
    const tail = result.all?.split('\n').slice(-25).join('\n') ?? ''
    throw new StepError(`${file} ${args.join(' ')}: ${result.shortMessage}\n${tail}`)
  }
  return result.stdout
}

/** The same inside the lab's root (script/in-root). */
export const runInRoot = (args: string[], options: { env?: Record<string, string> } = {}) =>
  run(join(top, 'script/in-root'), args, options)
