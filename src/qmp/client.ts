// SPDX-License-Identifier: GPL-2.0-or-later

import type { Duplex } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import { ExitCode } from '../errors.ts'
import {
  QmpCommandError,
  QmpConnectError,
  QmpConnectionLostError,
  type QmpError,
  QmpGreetingError,
  QmpInterruptedError,
  QmpNegotiationError,
  QmpProtocolError,
  type QmpRequest,
  QmpStateError,
  QmpTimeoutError,
} from './errors.ts'
import { EventStream } from './events.ts'
import { formatJson, type Json, parseJson } from './json.ts'
import { LineSplitter } from './lines.ts'
import type {
  CommandArguments,
  CommandName,
  CommandReturns,
  OutOfBandCommandName,
  QmpEvent,
  QmpVersion,
} from './protocol.ts'
import { hasPromisedShape } from './shapes.ts'
import { busy, openSocket, readBacklog } from './socket.ts'
import type { FdPassing, OpenTransport } from './transport.ts'
import { type WaitOptions, waitFor } from './waiting.ts'

/**
 * idle: never connected, or no longer. connecting: until the monitor has left capabilities negotiation. running: takes
 * commands. disconnecting: close() was called, the socket isn't closed yet.
 */
export type Runstate = 'idle' | 'connecting' | 'running' | 'disconnecting'

export interface ConnectOptions {
  /** Path of a unix socket that QEMU serves as a QMP monitor; with `open`, only what messages call it. */
  path: string
  /** Opens the stream, if it isn't a unix socket of this host. */
  open?: OpenTransport | undefined
  /** For the connection, the greeting and the negotiation together; 10 s unless told. */
  timeoutMs?: number | undefined
  /** Longest time a command may take unless execute() is told otherwise; 30 s unless told. */
  commandTimeoutMs?: number | undefined
  signal?: AbortSignal | undefined
  /** Sees every line of the traffic. */
  trace?: ((direction: 'send' | 'receive', line: string) => void) | undefined
  /** Negotiate out-of-band commands, which QEMU answers while another command hangs (qmp-spec, "Out-of-band execution"). */
  outOfBand?: boolean | undefined
  /** A longer line ends the connection; 64 MiB unless told. */
  maxLineBytes?: number | undefined
  /**
   * Sends descriptors, with one space, over a connected unix socket (SCM_RIGHTS), which Node can't; throws an Error with code
   * EAGAIN when the socket takes nothing now.
   */
  sendFds?: ((socket: number, fds: readonly number[]) => void) | undefined
}

export interface CommandOptions extends WaitOptions {
  /** Descriptors that the command is about, like add-fd's. QEMU gets duplicates. */
  fds?: readonly number[] | undefined
}

interface Pending {
  request: QmpRequest
  resolve(value: Json): void
  reject(error: Error): void
}

/** A command without required arguments may be called without any. */
type Rest<C extends CommandName> =
  Record<string, never> extends CommandArguments<C>
    ? [args?: CommandArguments<C>, options?: CommandOptions]
    : [args: CommandArguments<C>, options?: CommandOptions]

const defaultConnectMs = 10_000
const defaultCommandMs = 30_000
const defaultMaxLineBytes = 64 * 1024 * 1024
const defaultMaxEvents = 4096
const sendRetryMs = 10
// A monitor that is free greets at once; one that another client holds never accepts us. A QEMU under load takes a while
// to notice that its last client has left, and looks just as if it were held meanwhile.
const lookMs = 500
const heldAfterMs = 2000

/**
 * One connection to one QMP monitor. A monitor serves a single client: while this one is open, every other connection
 * to the same socket hangs without a greeting.
 */
export class QmpClient {
  readonly path: string
  readonly #options: ConnectOptions
  #runstate: Runstate = 'idle'
  #socket: (Duplex & Partial<FdPassing>) | undefined
  #version: QmpVersion | undefined
  #offersOutOfBand = false
  #nextId = 1
  readonly #pending = new Map<string, Pending>()
  readonly #streams = new Set<EventStream>()
  #greeting: { resolve(version: QmpVersion): void; reject(error: Error): void } | undefined
  #failure: QmpError | undefined
  #closed: Promise<void> = Promise.resolve()

  constructor(options: ConnectOptions) {
    this.path = options.path
    this.#options = options
  }

  /** Opens a connection, ready for commands. Throws what connect() throws. */
  static async connect(options: ConnectOptions): Promise<QmpClient> {
    const client = new QmpClient(options)
    await client.connect()
    return client
  }

  get runstate(): Runstate {
    return this.#runstate
  }

  /** QEMU's version as it greeted. */
  get version(): QmpVersion {
    if (this.#version === undefined) throw new QmpStateError('version', this.#runstate)
    return this.#version
  }

  /**
   * The unix socket's own descriptor, to ask the kernel who is at its other end; undefined without a connection, or when `open`
   * made it.
   */
  get descriptor(): number | undefined {
    if (this.#options.open !== undefined) return undefined
    // Node has no public way to it.
    return (this.#socket as unknown as { _handle?: { fd?: number } | null } | undefined)?._handle?.fd
  }

  /**
   * Connects, awaits the greeting and leaves capabilities negotiation. Throws QmpConnectError (exit codes 3, 4, and 9
   * when another client holds the monitor), QmpGreetingError, QmpNegotiationError, QmpTimeoutError, QmpInterruptedError.
   */
  async connect(): Promise<void> {
    if (this.#runstate !== 'idle' || this.#failure !== undefined) throw new QmpStateError('connect', this.#runstate)
    const { signal } = this.#options
    const deadline = Date.now() + (this.#options.timeoutMs ?? defaultConnectMs)
    const left = (): WaitOptions => ({ timeoutMs: Math.max(1, deadline - Date.now()), signal })
    this.#runstate = 'connecting'
    try {
      const socket = await (this.#options.open?.(left()) ?? openSocket(this.path, left()))
      const greeting = new Promise<QmpVersion>((resolve, reject) => {
        this.#greeting = { resolve, reject }
      })
      this.#listen(socket)
      this.#version = await this.#awaitGreeting(greeting, deadline)
      await this.#negotiate(left())
      this.#runstate = 'running'
    } catch (error) {
      this.#socket?.destroy()
      await this.#closed
      this.#runstate = 'idle'
      throw error
    }
  }

  /**
   * Runs a command and returns what it returns. Throws QmpCommandError when QEMU refuses it, QmpProtocolError for a reply that
   * lacks what QAPI promises. After QmpTimeoutError or
   * QmpInterruptedError the command may still take effect; QMP runs commands in order, so the reply to any later one
   * proves that the earlier is over. Throws QmpStateError for descriptors on a connection that can't pass any.
   */
  async execute<C extends CommandName>(command: C, ...[args, options]: Rest<C>): Promise<CommandReturns<C>> {
    return await this.#perform(command, 'execute', args, options)
  }

  /**
   * Runs a command ahead of all that wait or hang: its reply may overtake theirs. Throws what execute() throws, and
   * QmpStateError unless the connection was made with `outOfBand` to a QEMU that offers it.
   */
  async executeOutOfBand<C extends OutOfBandCommandName>(
    command: C,
    ...[args, options]: Rest<C>
  ): Promise<CommandReturns<C>> {
    if (!this.hasOutOfBand) throw new QmpStateError(`${command} out of band`, this.#runstate)
    return await this.#perform(command, 'exec-oob', args, options)
  }

  /** Whether out-of-band commands were negotiated. */
  get hasOutOfBand(): boolean {
    return this.#runstate === 'running' && this.#offersOutOfBand && this.#options.outOfBand === true
  }

  /** Whether commands can take descriptors along. */
  get passesFds(): boolean {
    return this.#socket?.passFds !== undefined || (this.descriptor !== undefined && this.#options.sendFds !== undefined)
  }

  async #perform<C extends CommandName>(
    command: C,
    how: 'execute' | 'exec-oob',
    args: unknown,
    options: CommandOptions | undefined,
  ): Promise<CommandReturns<C>> {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#runstate !== 'running') throw new QmpStateError(command, this.#runstate)
    const reply = await this.#request(command, args, options, how)
    if (!hasPromisedShape(command, reply)) {
      throw new QmpProtocolError(this.path, `its reply to ${command} is not what QAPI promises`, {
        details: { command },
      })
    }
    return reply as CommandReturns<C>
  }

  /**
   * Subscribes to events, from this moment on: subscribe first, then run the command whose events matter. An unread
   * subscription holds `limit` events; reading past an overflow throws.
   */
  events(filter: (event: QmpEvent) => boolean = () => true, limit: number = defaultMaxEvents): EventStream {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#runstate !== 'running') throw new QmpStateError('events', this.#runstate)
    const stream = new EventStream(filter, limit, (closed) => this.#streams.delete(closed))
    this.#streams.add(stream)
    return stream
  }

  /** Ends the connection; commands that still wait fail, event streams end. Never throws; may be called again. */
  async close(): Promise<void> {
    if (this.#runstate === 'running' || this.#runstate === 'connecting') {
      this.#runstate = 'disconnecting'
      for (const stream of [...this.#streams]) stream.close()
      this.#socket?.destroy()
    }
    await this.#closed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #listen(socket: Duplex & Partial<FdPassing>): void {
    const lines = new LineSplitter(this.#options.maxLineBytes ?? defaultMaxLineBytes)
    this.#socket = socket
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const line of lines.push(chunk)) this.#receive(line)
      } catch (error) {
        this.#fail(error instanceof RangeError ? this.#badPeer(error.message, error) : (error as QmpError))
      }
    })
    let cause: Error | undefined
    socket.on('error', (error) => {
      cause = error
    })
    this.#closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#end(cause)
        resolve()
      })
    })
  }

  /** What a peer gets that breaks the protocol: before its greeting it isn't a QMP monitor at all. */
  #badPeer(why: string, cause?: unknown): QmpError {
    const options = cause === undefined ? {} : { cause }
    return this.#version === undefined
      ? new QmpGreetingError(this.path, why, options)
      : new QmpProtocolError(this.path, why, options)
  }

  #fail(error: QmpError): void {
    this.#failure ??= error
    this.#socket?.destroy()
  }

  #end(cause: Error | undefined): void {
    const wasAsked = this.#runstate === 'disconnecting'
    if (!wasAsked) {
      const why = cause?.message ?? 'it closed the connection'
      this.#failure ??=
        this.#version === undefined
          ? new QmpGreetingError(this.path, `${why} without a greeting`, { cause })
          : new QmpConnectionLostError(this.path, why, { cause })
    }
    const error = this.#failure ?? new QmpStateError('a reply', 'disconnecting')
    this.#runstate = 'idle'
    this.#greeting?.reject(error)
    for (const pending of this.#pending.values()) pending.reject(error)
    this.#pending.clear()
    for (const stream of [...this.#streams]) stream.finish(wasAsked ? undefined : error)
  }

  /** Waits in slices, and looks between them why nothing comes. */
  async #awaitGreeting(greeting: Promise<QmpVersion>, deadline: number): Promise<QmpVersion> {
    const { signal } = this.#options
    const heldAt = Date.now() + heldAfterMs
    while (true) {
      const left = deadline - Date.now()
      try {
        return await waitFor(greeting, 'the connection', { timeoutMs: Math.max(1, Math.min(lookMs, left)), signal })
      } catch (error) {
        if (!(error instanceof QmpTimeoutError)) throw error
      }
      const isLast = left <= lookMs
      if (!isLast && Date.now() < heldAt) continue
      const backlog = this.#options.open === undefined ? await readBacklog(this.path) : undefined
      if (backlog !== undefined && backlog.waiting > 0 && backlog.accepted > 0) throw busy(this.path)
      if (isLast) throw this.#noGreeting(backlog)
    }
  }

  #noGreeting(backlog: Awaited<ReturnType<typeof readBacklog>>): QmpError {
    if (backlog === undefined) return busy(this.path)
    if (backlog.waiting === 0) return new QmpGreetingError(this.path, 'it took the connection and sent no greeting')
    return new QmpConnectError(
      'VM_NOT_ANSWERING',
      ExitCode.TimedOut,
      `${this.path}: its server does not take connections: a QEMU that hangs or is stopped (SIGSTOP)?`,
    )
  }

  async #negotiate(options: WaitOptions): Promise<void> {
    try {
      const enable = this.#offersOutOfBand && this.#options.outOfBand ? ['oob'] : undefined
      await this.#request('qmp_capabilities', { ...(enable && { enable }) }, options)
    } catch (error) {
      throw error instanceof QmpCommandError ? new QmpNegotiationError(this.path, error) : error
    }
  }

  async #request(
    command: string,
    args: unknown,
    options: CommandOptions = {},
    how: 'execute' | 'exec-oob' = 'execute',
  ): Promise<Json> {
    const { fds } = options
    if (fds !== undefined && !this.passesFds) throw new QmpStateError(`${command} with descriptors`, this.#runstate)
    if (options.signal?.aborted) throw new QmpInterruptedError(command, options.signal.reason)
    const id = `vblk-${this.#nextId++}`
    const request: QmpRequest = { execute: command, arguments: args ?? {} }
    const line = formatJson({ [how]: command, arguments: request.arguments, id })
    const timeoutMs = options.timeoutMs ?? this.#options.commandTimeoutMs ?? defaultCommandMs
    const wait = { timeoutMs, signal: options.signal }
    const deadline = Date.now() + timeoutMs
    // Nothing can come between the descriptors and the command that they are for, which is sent without waiting any more.
    while (fds !== undefined && !this.#trySendFds(fds)) await this.#awaitRoom(command, wait, deadline)
    const reply = new Promise<Json>((resolve, reject) => {
      this.#pending.set(id, { request, resolve, reject })
    })
    this.#options.trace?.('send', line)
    this.#write(`${line}\n`)
    return await waitFor(reply, command, wait)
  }

  /** Commands that are given together go out together, by one system call. */
  #write(line: string): void {
    const socket = this.#socket
    if (socket !== undefined && socket.writableCorked === 0) {
      socket.cork()
      process.nextTick(() => socket.uncork())
    }
    socket?.write(line)
  }

  /** Lets the socket get rid of what it has. Throws when there is no use in waiting. */
  async #awaitRoom(command: string, { timeoutMs = 0, signal }: WaitOptions, deadline: number): Promise<void> {
    if (this.#runstate !== 'running') throw this.#failure ?? new QmpStateError(command, this.#runstate)
    if (signal?.aborted) throw new QmpInterruptedError(command, signal.reason)
    if (Date.now() >= deadline) throw new QmpTimeoutError(command, timeoutMs)
    await setTimeout(sendRetryMs)
  }

  #trySendFds(fds: readonly number[]): boolean {
    if (this.#socket?.passFds !== undefined) return this.#socket.passFds(fds)
    // The space that carries them must not become a part of a line that is half sent.
    if (this.descriptor === undefined || this.#socket?.writableLength !== 0) return false
    try {
      this.#options.sendFds?.(this.descriptor, fds)
      return true
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return false
      const lost = new QmpConnectionLostError(this.path, (error as Error).message, { cause: error })
      this.#fail(lost)
      throw lost
    }
  }

  #receive(line: string): void {
    if (line.trim() === '') return
    this.#options.trace?.('receive', line)
    const message = this.#parse(line)
    if (this.#version === undefined) this.#greet(message)
    else if (typeof message.event === 'string') this.#dispatch(message)
    else this.#settle(message)
  }

  #parse(line: string): { [key: string]: Json } {
    let message: Json
    try {
      message = parseJson(line)
    } catch (error) {
      throw this.#badPeer(`it sent what is not JSON: ${excerpt(line)}`, error)
    }
    if (!isObject(message)) throw this.#badPeer(`it sent what is not an object: ${excerpt(line)}`)
    return message
  }

  #greet(message: { [key: string]: Json }): void {
    const version = isObject(message.QMP) ? message.QMP.version : undefined
    if (!isVersion(version)) throw this.#badPeer(`it greeted with ${excerpt(formatJson(message))}`)
    this.#version = version
    const { capabilities } = message.QMP as { [key: string]: Json }
    this.#offersOutOfBand = Array.isArray(capabilities) && capabilities.includes('oob')
    this.#greeting?.resolve(version)
  }

  #dispatch(message: { [key: string]: Json }): void {
    const data = isObject(message.data) ? message.data : {}
    const timestamp = isObject(message.timestamp) ? message.timestamp : { seconds: -1, microseconds: -1 }
    const event = { event: message.event, data, timestamp } as unknown as QmpEvent
    for (const stream of [...this.#streams]) stream.offer(event)
  }

  #settle(reply: { [key: string]: Json }): void {
    // A reply to a command that nobody waits for any more still finds its entry here.
    const pending = typeof reply.id === 'string' ? this.#pending.get(reply.id) : undefined
    if (pending === undefined) throw this.#badPeer(`a reply that nobody asked for: ${excerpt(formatJson(reply))}`)
    this.#pending.delete(reply.id as string)
    const { return: value, error } = reply
    if (value !== undefined) pending.resolve(value)
    else if (isObject(error) && typeof error.class === 'string' && typeof error.desc === 'string') {
      pending.reject(new QmpCommandError(pending.request, error.class, error.desc, reply))
    } else {
      const failure = this.#badPeer(`neither return nor error in its reply: ${excerpt(formatJson(reply))}`)
      pending.reject(failure)
      throw failure
    }
  }
}

function isObject(value: Json | undefined): value is { [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isVersion(value: Json | undefined): value is Json & QmpVersion {
  if (!isObject(value) || !isObject(value.qemu) || typeof value.package !== 'string') return false
  const { major, minor, micro } = value.qemu
  return typeof major === 'number' && typeof minor === 'number' && typeof micro === 'number'
}

/** The beginning of a peer's words, on one line and without control characters. */
function excerpt(text: string): string {
  const printable = text.slice(0, 80).replace(/[^\x20-\x7e]/g, '?')
  return text.length > 80 ? `${printable}…` : printable
}
