// SPDX-License-Identifier: GPL-2.0-or-later
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Finished } from '../device/root-qemu.ts'
import { top } from '../lab/setup/paths.ts'

/**
 * Starts vblk in the lab's Debian root, whose /usr/bin has QEMU, kmod and gcc, on this machine's kernel. Each wrapper
 * replaces itself by the next program, so the child that gets a signal is vblk.
 */
export function startVblkInRoot(argv: string[], env: Record<string, string> = {}) {
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  const command = ['env', ...variables, 'node', '--import', 'tsx', join(top, 'bin/dev.js'), ...argv]
  const child = spawn(join(top, 'script/in-root'), command, {
    cwd: top,
    env: process.env,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  return { child: child as ChildProcess, finished: collect(child) }
}

async function collect(child: ReturnType<typeof spawn>): Promise<Finished> {
  const [stdout, stderr, [exitCode]] = await Promise.all([
    text(child.stdout as NodeJS.ReadableStream),
    text(child.stderr as NodeJS.ReadableStream),
    once(child, 'close'),
  ])
  return { exitCode, stdout, stderr }
}

/** Runs vblk there to its end. */
export const vblkInRoot = (argv: string[], env?: Record<string, string>) => startVblkInRoot(argv, env).finished
