// SPDX-License-Identifier: GPL-2.0-or-later

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { VmAddress } from './address.ts'

export type LibvirtAddress = Extract<VmAddress, { kind: 'libvirt' }>

/** How a virsh ended: what it printed, and if it failed what it said of that, or 'ENOENT' without a virsh. */
export interface VirshOutcome {
  stdout: string
  failure?: string
}

export interface VirshOptions {
  /** Ends it. */
  signal?: AbortSignal | undefined
  /** Descriptors that it inherits, numbered from 3. */
  fds?: readonly number[] | undefined
}

/** QEMU's longest reply that the QMP client takes. */
const maxReplyBytes = 64 << 20

function start(address: LibvirtAddress, args: readonly string[], options: VirshOptions = {}): ChildProcess {
  const { signal, fds = [] } = options
  const connection = address.uri === undefined ? [] : ['--connect', address.uri]
  return spawn('virsh', ['--quiet', ...connection, ...args], {
    stdio: ['ignore', 'pipe', 'pipe', ...fds],
    // Its messages are compared, and names may hold any character.
    env: { ...process.env, LC_ALL: 'C.UTF-8' },
    // Ctrl-C is not meant for it: a rollback still needs it.
    detached: true,
    ...(signal && { signal }),
  })
}

/** Runs virsh to its end. Never throws. */
export async function runVirsh(
  address: LibvirtAddress,
  args: readonly string[],
  options: VirshOptions = {},
): Promise<VirshOutcome> {
  const child = start(address, args, options)
  const stdout: Buffer[] = []
  const stderr: Buffer[] = []
  let bytes = 0
  child.stdout?.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > maxReplyBytes) child.kill()
    else stdout.push(chunk)
  })
  child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk))
  return await new Promise((resolve) => {
    const text = () => Buffer.concat(stdout).toString('utf8')
    child.once('error', (error: NodeJS.ErrnoException) =>
      resolve({ stdout: text(), failure: error.code === 'ENOENT' ? 'ENOENT' : error.message }),
    )
    child.once('close', (code, signal) => {
      if (code === 0) return resolve({ stdout: text() })
      // Ctrl-C before it had a session of its own: it has not begun.
      if (signal === 'SIGINT') return resolve(runVirsh(address, args, options))
      resolve({ stdout: text(), failure: lastLine(stderr) ?? howEnded(code, signal) })
    })
  })
}

const lastLine = (output: readonly Buffer[]): string | undefined =>
  Buffer.concat(output)
    .toString('utf8')
    .trim()
    .split('\n')
    .at(-1)
    ?.replace(/^error: /, '') || undefined

const howEnded = (code: number | null, signal: NodeJS.Signals | null) =>
  signal === null ? `virsh failed with exit code ${code}` : `virsh was ended by ${signal}`

/**
 * Follows what a virsh prints that goes on.
 *
 * @param onLine - gets each line
 * @param onEnd - hears why it ended, unless it is ended by the returned function
 */
export function followVirsh(
  address: LibvirtAddress,
  args: readonly string[],
  onLine: (line: string) => void,
  onEnd: (why: string) => void,
): () => void {
  const child = start(address, args)
  const stderr: Buffer[] = []
  let isWanted = true
  const end = (why: string) => {
    if (isWanted) onEnd(why)
    isWanted = false
  }
  child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk))
  if (child.stdout) createInterface(child.stdout).on('line', (line) => isWanted && onLine(line))
  child.once('error', (error) => end(error.message))
  child.once('close', (code, signal) => end(lastLine(stderr) ?? howEnded(code, signal)))
  return () => {
    isWanted = false
    child.kill()
  }
}
