// SPDX-License-Identifier: GPL-2.0-or-later

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { Duplex } from 'node:stream'
import { ExitCode } from '../errors.ts'
import { type OpenTransport, QmpConnectError } from '../qmp/index.ts'
import type { VmAddress } from './address.ts'

type LibvirtAddress = Extract<VmAddress, { kind: 'libvirt' }>

interface Answer {
  reply: Record<string, unknown>
  /** What virsh said if it failed: the domain is gone, libvirtd is. */
  failure?: string
}

/**
 * Reaches a domain's QEMU through libvirt's own monitor (virsh qemu-monitor-command), since libvirt holds the socket. libvirt
 * calls the domain "tainted" from then on. Looks like a monitor: greets, answers in order, passes on events.
 */
export function libvirtTransport(address: LibvirtAddress): OpenTransport {
  return async ({ timeoutMs }) => {
    const monitor = new LibvirtMonitor(address, timeoutMs)
    await monitor.greet()
    return monitor
  }
}

const virshArguments = ({ uri }: LibvirtAddress) => ['--quiet', ...(uri === undefined ? [] : ['--connect', uri])]

/** As `virsh qemu-monitor-event` prints QEMU's events: "event NAME at SECONDS.MICROSECONDS for domain 'X': {…}". */
const eventLine = /^event ([A-Z][A-Z0-9_]*) at (\d+)\.(\d{6}) for domain '.*?': (.*)$/

class LibvirtMonitor extends Duplex {
  readonly #address: LibvirtAddress
  readonly #timeoutMs: number | undefined
  readonly #events: ChildProcess
  #partial = ''

  constructor(address: LibvirtAddress, timeoutMs: number | undefined) {
    super()
    this.#address = address
    this.#timeoutMs = timeoutMs
    const args = ['qemu-monitor-event', '--domain', address.domain, '--loop']
    this.#events = spawn('virsh', [...virshArguments(address), ...args], { stdio: ['ignore', 'pipe', 'ignore'] })
    // That virsh is missing or fails shows in the first command.
    this.#events.on('error', () => {})
    if (this.#events.stdout !== null) {
      createInterface(this.#events.stdout).on('line', (line) => this.#passOn(line))
    }
  }

  /** Says what a monitor says first. Throws QmpConnectError: exit codes 3 and 4. */
  async greet(): Promise<void> {
    const { reply, failure } = await this.#ask('{"execute":"query-version"}')
    if (failure !== undefined) {
      this.destroy()
      throw explain(this.#address, failure)
    }
    this.#say({ QMP: { version: reply.return, capabilities: [] } })
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    const lines = (this.#partial + chunk.toString('utf8')).split('\n')
    this.#partial = lines.pop() ?? ''
    this.#answerAll(lines).then(
      () => done(),
      (error) => done(error),
    )
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#events.kill()
    done(error)
  }

  async #answerAll(lines: string[]): Promise<void> {
    for (const line of lines) {
      const { id, ...command } = JSON.parse(line) as { id: string; execute: string }
      // libvirt has done that long ago.
      const { reply, failure } =
        command.execute === 'qmp_capabilities'
          ? ({ reply: { return: {} } } as Answer)
          : await this.#ask(JSON.stringify(command))
      if (failure !== undefined) throw new Error(failure)
      // libvirt numbers the commands itself.
      this.#say({ ...reply, id })
    }
  }

  #ask(command: string): Promise<Answer> {
    const args = [
      ...virshArguments(this.#address),
      'qemu-monitor-command',
      '--domain',
      this.#address.domain,
      '--cmd',
      command,
    ]
    return new Promise((resolve) => {
      const options = { maxBuffer: 64 << 20, ...(this.#timeoutMs !== undefined && { timeout: this.#timeoutMs }) }
      execFile('virsh', args, options, (error, stdout, stderr) => {
        const said = stderr.trim().split('\n').at(-1) ?? ''
        const failed = (why: string) => resolve({ reply: {}, failure: why })
        if (error !== null)
          return failed((error as NodeJS.ErrnoException).code === 'ENOENT' ? 'ENOENT' : said || error.message)
        try {
          resolve({ reply: JSON.parse(stdout) })
        } catch {
          failed(`virsh answered what is not JSON: ${stdout.slice(0, 80)}`)
        }
      })
    })
  }

  #passOn(line: string): void {
    const [, event, seconds, microseconds, details = ''] = eventLine.exec(line) ?? []
    if (event === undefined) return
    const timestamp = { seconds: Number(seconds), microseconds: Number(microseconds) }
    // An event without data has no details.
    const data = details.startsWith('{') ? details : '{}'
    try {
      this.#say({ event, data: JSON.parse(data), timestamp })
    } catch {
      // Half a line from a virsh that was just ended.
    }
  }

  #say(message: object): void {
    if (!this.destroyed) this.push(`${JSON.stringify(message)}\n`)
  }
}

function explain({ domain }: LibvirtAddress, failure: string): QmpConnectError {
  if (failure === 'ENOENT') {
    return new QmpConnectError('NO_TOOL', ExitCode.HostLacks, 'virsh is not installed', {
      hint: 'apt-get install libvirt-clients',
    })
  }
  const words = failure.replace(/^error: /, '')
  if (/failed to get domain|Domain not found|domain is not running/i.test(words)) {
    return new QmpConnectError('VM_NOT_FOUND', ExitCode.NotFound, `libvirt domain ${domain}: ${words}`, {
      hint: 'see the domains with: virsh list --all',
    })
  }
  return new QmpConnectError('LIBVIRT_FAILED', ExitCode.HostLacks, `libvirt: ${words}`)
}
