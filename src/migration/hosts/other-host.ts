// SPDX-License-Identifier: GPL-2.0-or-later

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { ExitCode, VblkError } from '../../errors.ts'
import { formatJson, parseJson } from '../../qmp/json.ts'
import { parseAddress, type VmAddress } from '../../vm/address.ts'
import { type Forwarding, forwardSocket, linkOptions } from '../../vm/ssh.ts'
import { machineId } from './machine.ts'
import {
  type AnswerOf,
  hello,
  maxLineBytes,
  type Operation,
  operations,
  pingMs,
  protocolVersion,
  type RequestOf,
  reply,
} from './protocol.ts'

export type SshAddress = Extract<VmAddress, { kind: 'ssh' }>

/** The ssh address in a VM's name; undefined for any other name. */
export function sshAddress(name: string): SshAddress | undefined {
  const address = parseAddress(name)
  return address?.kind === 'ssh' ? address : undefined
}

interface Waiting {
  resolve(answer: unknown): void
  reject(error: Error): void
}

const openMs = 60_000
const answerMs = 60_000
const closeMs = 5000
const forwardMs = 30_000

/** The vblk of another host, which answers about that host for as long as this is open. */
export class OtherHost {
  /** How ssh reaches it. */
  readonly address: SshAddress
  readonly #ssh: ChildProcess
  readonly #said: string[] = []
  readonly #waiting = new Map<number, Waiting>()
  #received = ''
  #next = 1
  #lost: VblkError | undefined
  #hello: ((line: string) => void) | undefined
  #ping: NodeJS.Timeout | undefined
  /** machine-id(5) */
  machine = ''
  /** As it calls itself. */
  name = ''

  private constructor(address: SshAddress) {
    this.address = address
    // Ctrl-C is not meant for it: a rollback needs it.
    this.#ssh = spawn('ssh', sshArguments(address), {
      stdio: ['pipe', 'pipe', 'pipe'],
      detached: true,
      env: process.env,
    })
    this.#ssh.stdin?.on('error', () => {})
    this.#ssh.stderr?.on('data', (chunk: Buffer) => {
      this.#said.push(...String(chunk).split(/\r?\n/).filter(Boolean))
      this.#said.splice(0, this.#said.length - 20)
    })
    this.#ssh.stdout?.setEncoding('utf8').on('data', (text: string) => this.#receive(text))
    this.#ssh.once('error', (error) => this.#fail(sshMissing(error)))
    this.#ssh.once('close', (code) => this.#fail(this.#ended(code)))
  }

  /**
   * Starts vblk there. Throws VblkError: exit code 3 when ssh doesn't get there, 4 when vblk isn't there or is of another
   * version, 2 when it is this very host.
   */
  static async open(address: SshAddress, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<OtherHost> {
    const host = new OtherHost(address)
    try {
      const first = new Promise<string>((resolve, reject) => {
        host.#hello = resolve
        host.#waiting.set(0, { resolve: () => {}, reject })
      })
      host.#greet(await host.#within(first, openMs, 'vblk host-agent', signal))
      host.#waiting.delete(0)
      host.#ping = setInterval(() => void host.ask('ping', {}).catch(() => {}), pingMs)
      host.#ping.unref()
      return host
    } catch (error) {
      await host.close()
      throw error
    }
  }

  /** Asks for one thing. Throws VblkError: what the other vblk refused with, or HOST_LOST (exit code 7). */
  async ask<O extends Operation>(
    operation: O,
    args: RequestOf<O>,
    { timeoutMs = answerMs, signal }: { timeoutMs?: number; signal?: AbortSignal | undefined } = {},
  ): Promise<AnswerOf<O>> {
    if (this.#lost !== undefined) throw this.#lost
    const id = this.#next++
    const answer = new Promise<unknown>((resolve, reject) => this.#waiting.set(id, { resolve, reject }))
    this.#ssh.stdin?.write(`${formatJson({ id, do: operation, with: args })}\n`)
    try {
      const parsed = operations[operation].answer.safeParse(await this.#within(answer, timeoutMs, operation, signal))
      if (parsed.success) return parsed.data as AnswerOf<O>
      throw this.#garbled(`its answer to ${operation}`)
    } finally {
      this.#waiting.delete(id)
    }
  }

  /** Makes a socket on this host for another one there, through an ssh of its own. Throws VblkError: exit codes 3 and 4. */
  async forward(there: string, here: string): Promise<Forwarding> {
    return await forwardSocket({ ...this.address, path: there }, here, { timeoutMs: forwardMs })
  }

  /** Lets go of it, and returns when it has let go of what it held for us there: the next vblk may want it at once. */
  async close(): Promise<void> {
    clearInterval(this.#ping)
    this.#fail(new VblkError('HOST_LOST', ExitCode.RolledBack, `the connection to ${this.#destination} was closed`))
    const hasExited = this.#ssh.pid === undefined || this.#ssh.exitCode !== null || this.#ssh.signalCode !== null
    this.#ssh.stdin?.end()
    if (!hasExited) await once(this.#ssh, 'exit', { signal: AbortSignal.timeout(closeMs) }).catch(() => {})
    this.#ssh.kill()
  }

  get #destination(): string {
    return this.address.destination
  }

  async #within<T>(answer: Promise<T>, ms: number, what: string, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted()
    let settle = () => {}
    const late = new Promise<never>((_resolve, reject) => {
      const words = `${this.#destination} did not answer within ${ms / 1000} s (${what})`
      const timer = setTimeout(() => reject(new VblkError('HOST_LOST', ExitCode.RolledBack, words)), ms)
      const stop = () => reject(signal?.reason)
      signal?.addEventListener('abort', stop)
      settle = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', stop)
      }
    })
    // One of them may fail when nobody listens any more.
    answer.catch(() => {})
    try {
      return await Promise.race([answer, late])
    } finally {
      settle()
    }
  }

  #greet(line: string): void {
    const parsed = hello.safeParse(parseLine(line))
    if (!parsed.success) throw this.#garbled('its greeting')
    const { 'vblk-host-agent': version, machine, name } = parsed.data
    if (version !== protocolVersion) {
      throw new VblkError(
        'OTHER_VERSION',
        ExitCode.HostLacks,
        `vblk on ${this.#destination} speaks version ${version} between hosts, and this one ${protocolVersion}`,
        { hint: 'install the same vblk on both hosts' },
      )
    }
    if (machine === machineId()) {
      throw new VblkError('SAME_HOST', ExitCode.Usage, `${this.#destination} is this host, by its machine id`, {
        hint: "name the socket's path alone",
      })
    }
    this.machine = machine
    this.name = name
  }

  #receive(text: string): void {
    this.#received += text
    if (this.#received.length > maxLineBytes) {
      this.#drop('a line too long')
      return
    }
    const lines = this.#received.split('\n')
    this.#received = lines.pop() ?? ''
    for (const line of lines) {
      if (this.#hello === undefined) this.#dispatch(line)
      else if (line.includes('"vblk-host-agent"')) {
        // Before it comes what that host's shell prints at every login.
        this.#hello(line)
        this.#hello = undefined
      }
    }
  }

  #dispatch(line: string): void {
    const parsed = reply.safeParse(parseLine(line))
    if (!parsed.success) {
      this.#drop('what is no answer')
      return
    }
    const message = parsed.data
    const waiting = this.#waiting.get(message.id)
    if ('answer' in message) {
      waiting?.resolve(message.answer)
      return
    }
    const { code, exitCode, message: words, hint } = message.error
    const known = Object.values(ExitCode).find((each) => each === exitCode && each !== ExitCode.Ok)
    const options = { ...(hint !== null && { hint }) }
    const text = `on ${this.#destination}: ${words}`
    waiting?.reject(new VblkError(code, known ?? ExitCode.HostLacks, text, options))
  }

  #drop(what: string): void {
    this.#fail(this.#garbled(what))
    this.#ssh.kill()
  }

  #garbled(what: string): VblkError {
    return new VblkError(
      'HOST_LOST',
      ExitCode.RolledBack,
      `${this.#destination} sent ${what}, which can't be understood`,
    )
  }

  #fail(error: VblkError): void {
    this.#lost ??= error
    for (const { reject } of this.#waiting.values()) reject(this.#lost)
    this.#waiting.clear()
  }

  #ended(code: number | null): VblkError {
    const output = this.#said
    const words = output.at(-1) ?? 'it said nothing'
    // As shells say it, and sshd passes on.
    if (code === 127 || code === 126) {
      return new VblkError('NO_VBLK_THERE', ExitCode.HostLacks, `${this.#destination} has no vblk: ${words}`, {
        hint: `install the same vblk there; this must work: ssh ${this.#destination} vblk --version`,
      })
    }
    if (this.machine !== '')
      return new VblkError(
        'HOST_LOST',
        ExitCode.RolledBack,
        `the connection to ${this.#destination} was lost: ${words}`,
      )
    return new VblkError('SSH_FAILED', ExitCode.NotFound, `ssh to ${this.#destination} failed: ${words}`, {
      hint: `it must work without a question: ssh ${this.#destination} vblk --version`,
      details: { output },
    })
  }
}

function sshArguments({ destination, port }: SshAddress): string[] {
  const options = ['-T', ...linkOptions, '-o', 'ClearAllForwardings=yes']
  return [...options, ...(port === undefined ? [] : ['-p', String(port)]), '--', destination, 'vblk host-agent']
}

function sshMissing(error: NodeJS.ErrnoException): VblkError {
  if (error.code !== 'ENOENT') return new VblkError('SSH_FAILED', ExitCode.NotFound, `ssh: ${error.message}`)
  return new VblkError('NO_TOOL', ExitCode.HostLacks, 'ssh is not installed', {
    hint: 'apt-get install openssh-client',
  })
}

function parseLine(line: string): unknown {
  try {
    return parseJson(line)
  } catch {
    return undefined
  }
}
