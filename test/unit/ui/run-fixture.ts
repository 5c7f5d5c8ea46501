// SPDX-License-Identifier: GPL-2.0-or-later
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { buildSync } from 'esbuild'
import { cache } from '../../lab/setup/paths.ts'

const source = join(import.meta.dirname, 'fixture')

/** A small program of the frame's: its folder, and its file that node runs. */
export interface Fixture {
  program: string
  remove(): void
}

/** Builds the fixture once, which is ten times as fast to start then. It lies where it finds the packages. */
export function buildFixture(): Fixture {
  mkdirSync(cache, { recursive: true })
  const dir = mkdtempSync(join(cache, 'fixture-'))
  copyFileSync(join(source, 'package.json'), join(dir, 'package.json'))
  buildSync({
    entryPoints: {
      run: join(source, 'run.ts'),
      'dist/commands/end': join(source, 'src/commands/end.ts'),
      'dist/commands/topic/work': join(source, 'src/commands/topic/work.ts'),
    },
    outdir: dir,
    bundle: true,
    splitting: true,
    // Most of these packages are CommonJS.
    banner: { js: `import { createRequire } from 'node:module'; const require = createRequire(import.meta.url)` },
    platform: 'node',
    target: 'node20.19',
    format: 'esm',
    logLevel: 'warning',
  })
  return { program: join(dir, 'run.js'), remove: () => rmSync(dir, { recursive: true, force: true }) }
}

export interface Finished {
  code: number | null
  stdout: string
  stderr: string
}

/** Starts the fixture's command line as a process of its own. */
export function startFixture(
  { program }: Fixture,
  args: string[],
  env: NodeJS.ProcessEnv = {},
): ChildProcessWithoutNullStreams {
  return spawn(process.execPath, [program, ...args], {
    env: { ...process.env, NO_COLOR: '1', NODE_OPTIONS: '', COLUMNS: '80', ...env },
  })
}

export async function finished(child: ChildProcessWithoutNullStreams): Promise<Finished> {
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  return { code, stdout, stderr }
}
