// SPDX-License-Identifier: GPL-2.0-or-later

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, rmSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ExitCode } from '../errors.ts'
import { type OpenTransport, QmpConnectError, QmpInterruptedError, QmpTimeoutError } from '../qmp/index.ts'
import type { VmAddress } from './address.ts'

type SshAddress = Extract<VmAddress, { kind: 'ssh' }>

const pollMs = 20

/**
 * Reaches a unix socket of another host through the system's ssh, with its configuration and its agent. ssh forwards a socket
 * in a private folder here, so the other host needs nothing but its sshd. It is killed when the stream ends.
 */
export function sshTransport(address: SshAddress): OpenTransport {
  return async ({ timeoutMs, signal }) => {
    const what = `ssh to ${address.destination}`
    const deadline = timeoutMs === undefined ? Number.POSITIVE_INFINITY : Date.now() + timeoutMs
    const dir = await mkdtemp(join(tmpdir(), 'vblk-ssh-'))
    const local = join(dir, 'qmp.sock')
    const ssh = spawn('ssh', sshArguments(address, local), { stdio: ['ignore', 'ignore', 'pipe'] })
    const said: string[] = []
    ssh.stderr.on('data', (chunk: Buffer) => said.push(...String(chunk).split(/\r?\n/).filter(Boolean)))
    let failure: Error | undefined
    ssh.once('error', (error) => {
      failure = error
    })
    const cleanUp = () => {
      ssh.kill()
      // At once: the program may end right after.
      rmSync(dir, { recursive: true, force: true })
    }
    try {
      while (!existsSync(local)) {
        if (failure !== undefined || ssh.exitCode !== null) throw sshFailed(address, failure, said)
        if (signal?.aborted) throw new QmpInterruptedError(what, signal.reason)
        if (Date.now() > deadline) throw new QmpTimeoutError(what, timeoutMs ?? 0)
        await sleep(pollMs)
      }
      return await connectThrough(local, ssh, said, cleanUp)
    } catch (error) {
      cleanUp()
      throw error
    }
  }
}

function sshArguments({ destination, port, path }: SshAddress, local: string): string[] {
  const escaped = (text: string) => text.replace(/[\\:]/g, '\\$&')
  return [
    ...['-N', '-T', '-o', 'BatchMode=yes', '-o', 'ExitOnForwardFailure=yes', '-o', 'ControlPath=none'],
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
