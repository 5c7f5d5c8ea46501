// SPDX-License-Identifier: GPL-2.0-or-later
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'

const program = join(import.meta.dirname, 'fixture/run.js')

export interface Finished {
  code: number | null
  stdout: string
  stderr: string
}

/** Starts the fixture's command line as a process of its own. */
export function startFixture(args: string[], env: NodeJS.ProcessEnv = {}): ChildProcessWithoutNullStreams {
  return spawn(process.execPath, ['--import', 'tsx', program, ...args], {
    env: { ...process.env, NO_COLOR: '1', NODE_OPTIONS: '', COLUMNS: '80', ...env },
  })
}

export async function finished(child: ChildProcessWithoutNullStreams): Promise<Finished> {
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  return { code, stdout, stderr }
}

export async function runFixture(args: string[], env?: NodeJS.ProcessEnv): Promise<Finished> {
  return finished(startFixture(args, env))
}
