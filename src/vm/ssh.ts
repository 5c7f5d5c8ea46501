// SPDX-License-Identifier: GPL-2.0-or-later

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ExitCode } from '../errors.ts'
import {
  type OpenTransport,
  QmpConnectError,
  QmpInterruptedError,
  QmpTimeoutError,
  type WaitOptions,
} from '../qmp/index.ts'
import type { VmAddress } from './address.ts'

type SshAddress = Extract<VmAddress, { kind: 'ssh' }>

const pollMs = 20

/** Asks nothing, shares no connection, and notices within half a minute that the other host is out of reach. */
export const linkOptions = [
  ...['-o', 'BatchMode=yes', '-o', 'ControlPath=none', '-o', 'ConnectTimeout=20'],
  ...['-o', 'ServerAliveInterval=5', '-o', 'ServerAliveCountMax=5'],
]

/** An ssh that passes connections to a socket of this host on to a socket of another. */
export interface Forwarding {
  ssh: ChildProcess
  /** What it has said so far, by lines. */
  said: string[]
  close(): void
}

/**
 * Makes a socket on this host whose connections ssh passes on, by the system's configuration and agent; the other host needs
 * nothing but its sshd. Whether somebody listens there shows only when somebody connects. Throws QmpConnectError and the like.
 */
export async function forwardSocket(
  address: SshAddress,
  local: string,
  { timeoutMs, signal }: WaitOptions,
): Promise<Forwarding> {
  const what = `ssh to ${address.destination}`
  const deadline = timeoutMs === undefined ? Number.POSITIVE_INFINITY : Date.now() + timeoutMs
  // Ctrl-C is not meant for it: it is still needed then.
  const ssh = spawn('ssh', sshArguments(address, local), { stdio: ['ignore', 'ignore', 'pipe'], detached: true })
  const said: string[] = []
  ssh.stderr.on('data', (chunk: Buffer) => said.push(...String(chunk).split(/\r?\n/).filter(Boolean)))
  let failure: Error | undefined
  ssh.once('error', (error) => {
    failure = error
  })
  try {
    while (!isListening(local)) {
      if (failure !== undefined || ssh.exitCode !== null) throw sshFailed(address, failure, said)
      if (signal?.aborted) throw new QmpInterruptedError(what, signal.reason)
      if (Date.now() > deadline) throw new QmpTimeoutError(what, timeoutMs ?? 0)
      await sleep(pollMs)
    }
    return { ssh, said, close: () => void ssh.kill() }
  } catch (error) {
    ssh.kill()
    throw error
  }
}

/** Whether somebody listens on a socket, which is a little after its file is there; by /proc/net/unix (its flags are those of unix_seq_show). */
function isListening(path: string): boolean {
  if (!existsSync(path)) return false
  const lines = readFileSync('/proc/net/unix', 'utf8').split('\n')
  return lines.some((line) => line.endsWith(` ${path}`) && line.split(' ')[3] === '00010000')
}

/** Reaches a unix socket of another host, through a socket in a private folder here. ssh is killed when the stream ends. */
export function sshTransport(address: SshAddress): OpenTransport {
  return async (options) => {
    const dir = await mkdtemp(join(tmpdir(), 'vblk-ssh-'))
    // At once: the program may end right after.
    const removeDir = () => rmSync(dir, { recursive: true, force: true })
    try {
      const local = join(dir, 'qmp.sock')
      const { ssh, said, close } = await forwardSocket(address, local, options)
      const cleanUp = () => {
        close()
        removeDir()
      }
      try {
        return await connectThrough(local, ssh, said, cleanUp)
      } catch (error) {
        close()
        throw error
      }
    } catch (error) {
      removeDir()
      throw error
    }
  }
}

function sshArguments({ destination, port, path }: SshAddress, local: string): string[] {
  const escaped = (text: string) => text.replace(/[\\:]/g, '\\$&')
  return [
    ...['-N', '-T', ...linkOptions, '-o', 'ExitOnForwardFailure=yes'],
    // An own -L would be refused where the user's configuration clears them.
    ...['-o', 'ClearAllForwardings=no', '-o', 'StreamLocalBindMask=0177'],
    ...(port === undefined ? [] : ['-p', String(port)]),
    ...['-L', `${escaped(local)}:${escaped(path)}`, '--', destination],
  ]
}

async function connectThrough(
  local: string,
  ssh: ChildProcess,
  said: string[],
  cleanUp: () => void,
): Promise<net.Socket> {
  const socket = net.connect({ path: local })
  await once(socket, 'connect')
  socket.once('close', cleanUp)
  // The other host's answer comes after the connection here was accepted, and only on ssh's stderr.
  ssh.stderr?.on('data', () => {
    const refused = said.map((line) => /open failed: (.*)$/.exec(line)?.[1]).find((words) => words !== undefined)
    if (refused !== undefined) socket.destroy(new Error(`there is no such socket, or nobody listens (${refused})`))
  })
  return socket
}

function sshFailed({ destination }: SshAddress, failure: Error | undefined, said: string[]): QmpConnectError {
  if ((failure as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') {
    return new QmpConnectError('NO_TOOL', ExitCode.HostLacks, 'ssh is not installed', {
      hint: 'apt-get install openssh-client',
    })
  }
  return new QmpConnectError(
    'SSH_FAILED',
    ExitCode.NotFound,
    `ssh to ${destination} failed: ${failure?.message ?? said.at(-1) ?? 'it said nothing'}`,
    { hint: `it must work without a question: ssh ${destination} true`, details: { output: said.slice(-20) } },
  )
}
