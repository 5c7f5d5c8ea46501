// SPDX-License-Identifier: GPL-2.0-or-later
import { execFile } from 'node:child_process'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { cache, top } from '../lab/setup/paths.ts'

export interface Finished {
  exitCode: number
  stdout: string
  stderr: string
}

/** Runs a command in the lab's Debian root, on this machine; stdin is fed to it. It is killed after a time. */
export function inRoot(argv: string[], stdin = '', timeout = 60_000): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      join(top, 'script/in-root'),
      argv,
      { timeout, env: process.env, maxBuffer: 64 << 20 },
      (error, stdout, stderr) => {
        if (error && typeof error.code !== 'number') reject(error)
        else resolve({ exitCode: typeof error?.code === 'number' ? error.code : 0, stdout, stderr })
      },
    )
    child.stdin?.end(stdin)
  })
}

/** The device's object for the root's QEMU, as script/setup has built it. */
export async function builtObject(): Promise<string> {
  const folder = join(cache, 'native')
  const [buildId] = (await readdir(folder)).filter((name) => /^[0-9a-f]{40}$/.test(name))
  if (!buildId) throw new Error(`no device in ${folder}; run script/setup`)
  return join(folder, buildId, 'vhost-blk.so')
}

interface Reply {
  return?: unknown
  error?: { class: string; desc: string }
}

/**
 * Starts QEMU (emulation, no guest) with the plugin, asks it a list of commands one after another, and quits it.
 *
 * @param plugin its file and arguments; the built object without any unless given; null for a QEMU that needs none
 * @returns the replies in order, `quit`'s not among them, and what QEMU wrote to stderr
 */
export async function askQemu(
  args: string[],
  commands: [command: string, args?: Record<string, unknown>][],
  binary = 'qemu-system-x86_64',
  plugin?: string | null,
): Promise<Finished & { replies: Reply[] }> {
  const lines = [['qmp_capabilities'], ...commands, ['quit']].map(([execute, parameters], id) =>
    JSON.stringify({ execute, ...(parameters ? { arguments: parameters } : {}), id }),
  )
  const basic = ['-M', 'q35', '-accel', 'tcg', '-nodefaults', '-display', 'none', '-S', '-qmp', 'stdio']
  const plugins = plugin === null ? [] : ['-plugin', plugin ?? `file=${await builtObject()}`]
  const finished = await inRoot([binary, ...basic, ...plugins, ...args], `${lines.join('\n')}\n`)
  const replies = new Map<number, Reply>()
  for (const line of finished.stdout.split('\n').filter((text) => text.trim())) {
    const message = JSON.parse(line)
    if (typeof message.id === 'number') replies.set(message.id, message)
  }
  return { ...finished, replies: commands.map((_command, index) => replies.get(index + 1) ?? {}) }
}

/** The lines of a text that aren't empty. */
export const linesOf = (text: string): string[] => text.split('\n').filter((line) => line.trim() !== '')
