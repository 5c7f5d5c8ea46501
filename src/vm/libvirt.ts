// SPDX-License-Identifier: GPL-2.0-or-later

import { Duplex } from 'node:stream'
import { ExitCode } from '../errors.ts'
import { type FdPassing, type OpenTransport, QmpConnectError } from '../qmp/index.ts'
import { waitFor } from '../qmp/waiting.ts'
import { type DomainIdentity, findDomainProcess, isLocalUri } from './libvirt-process.ts'
import type { Place } from './resolve.ts'
import { followVirsh, type LibvirtAddress, runVirsh } from './virsh.ts'

/** How a domain's QEMU is reached. */
export interface LibvirtRoute {
  open: OpenTransport
  /** Where it runs; once it has been opened. */
  locate(): Promise<Place>
}

/**
 * Reaches a domain's QEMU through libvirt's own monitor (virsh qemu-monitor-command), since libvirt holds the socket. libvirt
 * calls the domain "tainted" from then on.
 */
export function libvirtRoute(address: LibvirtAddress): LibvirtRoute {
  let identity: DomainIdentity | undefined
  return {
    open: async ({ timeoutMs, signal }) => {
      const monitor = new LibvirtMonitor(address)
      try {
        identity = await waitFor(monitor.greet(), "libvirt's answer", { timeoutMs, signal })
        return monitor
      } catch (error) {
        monitor.destroy()
        throw error
      }
    },
    locate: async () => {
      const reached = 'its monitor is reached through libvirt'
      if (identity === undefined) return { elsewhere: reached, remote: true }
      const found = await findDomainProcess(identity)
      if ('pid' in found) return { process: found }
      return { elsewhere: `${reached}: ${found.unknown}`, remote: !isLocalUri(identity.uri) }
    },
  }
}

/** As `virsh qemu-monitor-event` prints QEMU's events: "event NAME at SECONDS.MICROSECONDS for domain 'X': {…}". */
const eventLine = /^event ([A-Z][A-Z0-9_]*) at (\d+)\.(\d{6}) for domain '.*?': (.*)$/

/** As `virsh event` prints the end of a domain's QEMU: "event 'lifecycle' for domain 'X': Stopped Destroyed". */
const endLine = /^event 'lifecycle' for domain '.*': Stopped (.*)$/

/** Looks like a monitor: greets, answers in order, passes on events, and ends with its QEMU. */
class LibvirtMonitor extends Duplex implements FdPassing {
  readonly #address: LibvirtAddress
  readonly #commands = new AbortController()
  readonly #unfollow: (() => void)[]
  #isThere = false
  /** Why it ended before it had greeted. */
  #ended: string | undefined
  #partial = ''
  /** What the next line takes along. */
  #fds: readonly number[] = []

  constructor(address: LibvirtAddress) {
    super()
    this.#address = address
    const domain = ['--domain', address.domain, '--loop']
    const onEnd = (why: string) => this.#end(`libvirt passes on no events: ${why}`)
    this.#unfollow = [
      followVirsh(address, ['qemu-monitor-event', ...domain], (line) => this.#passOn(line), onEnd),
      followVirsh(
        address,
        ['event', '--event', 'lifecycle', ...domain],
        (line) => {
          const how = endLine.exec(line)?.[1]
          if (how !== undefined) this.#end(`libvirt says that the domain has stopped (${how})`)
        },
        onEnd,
      ),
    ]
  }

  /** Says what a monitor says first, and returns who is there. Throws QmpConnectError: exit codes 3 and 4. */
  async greet(): Promise<DomainIdentity> {
    const domain = quote(this.#address.domain)
    const ask = (command: string) => `qemu-monitor-command ${domain} ${quote(JSON.stringify({ execute: command }))}`
    // One virsh for all of it: most of its time is the start. It ends as the last one does.
    const script = ['uri', `domuuid ${domain}`, ask('query-name'), ask('query-version')].join('; ')
    const { stdout, failure } = await runVirsh(this.#address, [script], { signal: this.#commands.signal })
    const [uri = '', uuid = '', named = '', version = ''] = stdout.split('\n').filter((line) => line !== '')
    const wrong = failure ?? this.#ended
    if (wrong !== undefined) throw explain(this.#address, wrong)
    this.#isThere = true
    this.#say({ QMP: { version: parse(version)?.return, capabilities: [] } })
    const name = (parse(named)?.return as { name?: unknown } | undefined)?.name
    return { uri, uuid, name: typeof name === 'string' ? name : '' }
  }

  /** Gives the line that is written next descriptors to take along; false while another one is on its way. */
  passFds(fds: readonly number[]): boolean {
    if (this.writableLength > 0) return false
    this.#fds = fds
    return true
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
    for (const unfollow of this.#unfollow) unfollow()
    this.#commands.abort()
    done(error)
  }

  async #answerAll(lines: string[]): Promise<void> {
    for (const line of lines) {
      const fds = this.#fds
      this.#fds = []
      const { id, ...command } = JSON.parse(line) as { id: string; execute: string }
      // libvirt has done that long ago.
      const reply = command.execute === 'qmp_capabilities' ? { return: {} } : await this.#ask(command, fds)
      // libvirt numbers the commands itself.
      this.#say({ ...reply, id })
    }
  }

  async #ask(command: object, fds: readonly number[]): Promise<Record<string, unknown>> {
    const passed = fds.length === 0 ? [] : ['--pass-fds', fds.map((_, index) => index + 3).join(',')]
    const args = ['qemu-monitor-command', '--domain', this.#address.domain, ...passed, '--cmd', JSON.stringify(command)]
    const { stdout, failure } = await runVirsh(this.#address, args, { fds, signal: this.#commands.signal })
    if (failure !== undefined) throw new Error(`libvirt: ${failure}`)
    const reply = parse(stdout)
    if (reply === undefined) throw new Error(`virsh answered what is not JSON: ${stdout.slice(0, 80)}`)
    return reply
  }

  /** Without events a wait would not end, and a domain that is started anew is another VM. */
  #end(why: string): void {
    // The first command says more about what is wrong.
    if (this.#isThere) this.destroy(new Error(why))
    else this.#ended ??= why
  }

  #passOn(line: string): void {
    const [, event, seconds, microseconds, details = ''] = eventLine.exec(line) ?? []
    if (event === undefined) return
    const timestamp = { seconds: Number(seconds), microseconds: Number(microseconds) }
    // An event without data has no details.
    this.#say({ event, data: parse(details) ?? {}, timestamp })
  }

  #say(message: object): void {
    if (!this.destroyed) this.push(`${JSON.stringify(message)}\n`)
  }
}

/** A JSON object; undefined for anything else. */
function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

/** A word for virsh's own parser, which reads quotes as a shell does (virsh(1)). */
const quote = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`

function explain({ domain }: LibvirtAddress, words: string): QmpConnectError {
  if (words === 'ENOENT') {
    return new QmpConnectError('NO_TOOL', ExitCode.HostLacks, 'virsh is not installed', {
      hint: 'apt-get install libvirt-clients',
    })
  }
  const isOff = /domain is not running/i.test(words)
  if (isOff || /failed to get domain|Domain not found/i.test(words)) {
    return new QmpConnectError('VM_NOT_FOUND', ExitCode.NotFound, `libvirt domain ${domain}: ${words}`, {
      hint: isOff ? `start it with: virsh start ${domain}` : 'see the domains with: virsh list --all',
    })
  }
  return new QmpConnectError('LIBVIRT_FAILED', ExitCode.HostLacks, `libvirt: ${words}`, {
    ...(/failed to connect/i.test(words) && { hint: 'see whether it runs: systemctl status libvirtd virtqemud' }),
  })
}
