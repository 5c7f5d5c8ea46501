// SPDX-License-Identifier: GPL-2.0-or-later
// What `vblk host-agent` does: answers vblk on another host, which is at the other end of ssh, about this one.

import { once } from 'node:events'
import { hostname } from 'node:os'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { ExitCode, VblkError } from '../../errors.ts'
import { closeFd, connectFd, peerCredentials } from '../../host/fd.ts'
import { formatJson, parseJson } from '../../qmp/json.ts'
import { lockProcess } from '../../vm/lock.ts'
import { readFileOwner } from '../../vm/qemu-process.ts'
import { Channel } from '../channel.ts'
import { readFdinfo } from '../fdinfo.ts'
import { awaitProcessEnd, hasEnded, identify, isSameProcess } from '../journal/process-identity.ts'
import { formatRecord, isOpen, type ProcessIdentity, parseRecord } from '../journal/record.ts'
import type { JournalStore } from '../journal/store.ts'
import { startDestination } from '../start-destination.ts'
import { identifyDisk } from './disk-identity.ts'
import { machineId } from './machine.ts'
import {
  type AnswerOf,
  maxLineBytes,
  type Operation,
  operations,
  protocolVersion,
  type RequestOf,
  request,
  silenceMs,
} from './protocol.ts'

type Handlers = { [O in Operation]: (args: RequestOf<O>) => Promise<AnswerOf<O>> | AnswerOf<O> }

/**
 * Serves one caller until it closes its end, says nothing for half a minute, or the signal is given; then all that it held
 * here is let go of.
 */
export async function serveAgent(
  input: Readable,
  output: Writable,
  store: JournalStore,
  signal: AbortSignal,
): Promise<void> {
  const agent = new Agent(store)
  const say = (message: object) => void output.write(`${formatJson(message)}\n`)
  // Whoever is gone needs no answer.
  output.on('error', () => input.destroy())
  say({ 'vblk-host-agent': protocolVersion, machine: machineId(), name: hostname() })
  let silence = setTimeout(() => input.destroy(), silenceMs)
  signal.addEventListener('abort', () => input.destroy(), { once: true })
  const lines = createInterface({ input })
  lines.on('line', (line) => {
    clearTimeout(silence)
    silence = setTimeout(() => input.destroy(), silenceMs)
    void agent.answer(line).then(say, () => input.destroy())
  })
  try {
    await once(lines, 'close')
  } finally {
    clearTimeout(silence)
    await agent.close()
  }
}

class Agent {
  readonly #store: JournalStore
  readonly #close: (() => Promise<void> | void)[] = []
  readonly #closing = new AbortController()
  #process: ProcessIdentity | null = null

  constructor(store: JournalStore) {
    this.#store = store
  }

  /** Rejects for a line that is no request: then nothing that follows can be trusted either. */
  async answer(line: string): Promise<object> {
    if (line.length > maxLineBytes) throw new Error('a line too long')
    const parsed = request.parse(parseJson(line))
    try {
      return { id: parsed.id, answer: await this.#perform(parsed.do, parsed.with) }
    } catch (error) {
      const { code, exitCode, message, hint } =
        error instanceof VblkError
          ? error
          : new VblkError('AGENT_FAILED', ExitCode.HostLacks, (error as Error).message.slice(0, 1000))
      return { id: parsed.id, error: { code, exitCode, message, hint: hint ?? null } }
    }
  }

  async close(): Promise<void> {
    this.#closing.abort(new VblkError('HOST_LOST', ExitCode.RolledBack, 'whoever asked is gone'))
    for (const each of this.#close.splice(0).reverse()) await each()
  }

  async #perform(name: string, args: unknown): Promise<unknown> {
    if (!Object.hasOwn(operations, name)) throw new Error(`no operation '${name}'`)
    const operation = name as Operation
    const handler = this.#handlers[operation] as (args: unknown) => unknown
    return await handler(operations[operation].request.parse(args))
  }

  readonly #handlers: Handlers = {
    look: ({ path }) => this.#look(path),
    ended: ({ process }) => hasEnded(process),
    awaitEnd: ({ process }) => awaitProcessEnd(process),
    start: ({ program, path, timeoutMs }) =>
      startDestination(program, path, { timeoutMs, signal: this.#closing.signal }),
    fdinfo: async ({ fds }) => {
      const { pid } = this.#known()
      return await Promise.all(fds.map((fd) => readFdinfo(pid, fd)))
    },
    disk: ({ file }) => identifyDisk(file, true),
    channel: async () => {
      const channel = await Channel.create(await readFileOwner(this.#known().pid))
      this.#close.push(() => channel.remove())
      return { path: channel.uri.replace(/^unix:/, '') }
    },
    write: async ({ record }) => {
      const parsed = parseRecord(record)
      if ('fault' in parsed) throw new Error(`a record that can't be read: ${parsed.fault}`)
      await this.#store.write(parsed)
      if (!isOpen(parsed)) await this.#store.prune()
      return null
    },
    record: async ({ id }) => {
      const found = (await this.#store.list()).find((each) => each.id === id)
      return found === undefined ? null : formatRecord(found)
    },
    open: async () => {
      const isKnown = (process: ProcessIdentity | null) => isSameProcess(process, this.#process)
      const open = (await this.#store.list()).filter(isOpen)
      return open.find(({ source, destination }) => isKnown(source.process) || isKnown(destination.process))?.id ?? null
    },
    ping: () => null,
  }

  #look(path: string): AnswerOf<'look'> {
    const pid = servedBy(path)
    let unlocked: string | null = null
    this.#process = identify(pid) ?? null
    this.#close.push(
      lockProcess(pid, path, (message) => {
        unlocked = message
      }),
    )
    return { process: this.#process, unlocked }
  }

  #known(): ProcessIdentity {
    if (this.#process === null) throw new Error('no process has been looked at')
    return this.#process
  }
}

/** The process that listens on a socket: the kernel tells it to whoever connects, before anything is said. */
function servedBy(path: string): number {
  let socket: number
  try {
    socket = connectFd(path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const why = code === 'ENOENT' ? 'no such socket' : code === 'ECONNREFUSED' ? 'nobody listens on it' : code
    throw new VblkError('NO_SUCH_SOCKET', ExitCode.NotFound, `${path}: ${why}`)
  }
  try {
    const { pid } = peerCredentials(socket)
    if (pid > 0) return pid
    throw new VblkError('NO_PROCESS', ExitCode.HostLacks, `${path}: its QEMU runs in another pid namespace`)
  } finally {
    closeFd(socket)
  }
}
