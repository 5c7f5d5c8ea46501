// SPDX-License-Identifier: GPL-2.0-or-later
import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'

// The frames are described in agent/frame.h.
const headerLength = 8
const maxPayload = 65536
const type = { exec: 'E', input: 'I', signal: 'S', ping: 'P', output: 'O', error: 'R', exit: 'X', pong: 'p' } as const
type FrameType = (typeof type)[keyof typeof type]

export interface CommandHandlers {
  onOutput: (data: Buffer) => void
  onError: (data: Buffer) => void
}

export interface RunningCommand {
  /** The exit code, or 128 + signal; rejects if the channel breaks first. */
  exited: Promise<number>
  /** Feeds stdin; an empty buffer closes it. */
  input: (data: Buffer) => void
  /** Sends a signal, by number, to the command's process group. */
  kill: (signal: number) => void
}

interface Session extends CommandHandlers {
  resolve: (code: number) => void
  reject: (error: Error) => void
}

const frame = (session: number, kind: FrameType, payload: Buffer = Buffer.alloc(0)) => {
  const head = Buffer.alloc(headerLength)
  head.writeUInt32LE(session, 0)
  head.writeUInt32LE((kind.charCodeAt(0) * 2 ** 24 + payload.length) >>> 0, 4)
  return Buffer.concat([head, payload])
}

/** A caller of the agent in L1 (agent/agent.c), over the socket of its virtio-serial port. */
export class AgentClient {
  readonly #socket: Socket
  readonly #sessions = new Map<number, Session>()
  #received = Buffer.alloc(0)
  #next = 1

  private constructor(socket: Socket) {
    this.#socket = socket
  }

  /**
   * Connects and waits until the agent answers.
   *
   * @throws Error if the socket can't be reached or the agent doesn't answer in time
   */
  static async connect(path: string, timeoutMs: number): Promise<AgentClient> {
    const socket = connect(path)
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    const client = new AgentClient(socket)
    await client.#synchronize(timeoutMs)
    return client
  }

  /** Pings with a nonce and drops what an earlier caller left in the channel, up to the answer that carries it. */
  async #synchronize(timeoutMs: number): Promise<void> {
    const nonce = randomBytes(8)
    const answer = frame(0, type.pong, nonce)
    await new Promise<void>((resolve, reject) => {
      const ping = () => this.#socket.write(frame(0, type.ping, nonce))
      const again = setInterval(ping, 500)
      const settle = (action: () => void) => {
        clearInterval(again)
        clearTimeout(timer)
        this.#socket.removeAllListeners()
        action()
      }
      const timer = setTimeout(() => {
        settle(() => reject(new Error(`the agent in the machine did not answer within ${timeoutMs} ms`)))
        this.#socket.destroy()
      }, timeoutMs)
      const closed = () => settle(() => reject(new Error('the machine closed the channel')))
      this.#socket.on('error', closed)
      this.#socket.on('close', closed)
      this.#socket.on('data', (data) => {
        this.#received = Buffer.concat([this.#received, data])
        const at = this.#received.indexOf(answer)
        if (at < 0) return
        this.#received = this.#received.subarray(at + answer.length)
        settle(resolve)
      })
      ping()
    })
    const broken = () => this.#fail(new Error('the channel to the machine broke'))
    this.#socket.on('error', broken)
    this.#socket.on('close', broken)
    this.#socket.on('data', (data) => this.#receive(data))
  }

  /** Starts a command; with `pty` it gets a terminal, and its errors come with its output. */
  start(argv: string[], options: CommandHandlers & { cwd: string; pty?: boolean }): RunningCommand {
    const session = this.#next++
    const payload = Buffer.from([options.pty ? 'pty' : 'pipe', options.cwd, ...argv].map((s) => `${s}\0`).join(''))
    if (payload.length > maxPayload) throw new Error('command line too long for the agent')
    const exited = new Promise<number>((resolve, reject) => {
      this.#sessions.set(session, { onOutput: options.onOutput, onError: options.onError, resolve, reject })
    })
    this.#socket.write(frame(session, type.exec, payload))
    return {
      exited,
      kill: (signal) => this.#socket.write(frame(session, type.signal, Buffer.from([signal]))),
      input: (data) => {
        for (let at = 0; at < data.length; at += maxPayload)
          this.#socket.write(frame(session, type.input, data.subarray(at, at + maxPayload)))
        if (!data.length) this.#socket.write(frame(session, type.input))
      },
    }
  }

  /** Ends the connection; the agent hangs up what still runs. */
  close(): void {
    this.#socket.removeAllListeners()
    this.#socket.on('error', () => {})
    this.#socket.destroy()
    this.#fail(new Error('the channel to the machine was closed'))
  }

  #fail(error: Error): void {
    for (const session of this.#sessions.values()) session.reject(error)
    this.#sessions.clear()
  }

  #receive(data: Buffer): void {
    this.#received = Buffer.concat([this.#received, data])
    while (this.#received.length >= headerLength) {
      const word = this.#received.readUInt32LE(4)
      const end = headerLength + (word & 0xffffff)
      if (this.#received.length < end) return
      const id = this.#received.readUInt32LE(0)
      this.#dispatch(id, String.fromCharCode(word >>> 24), this.#received.subarray(headerLength, end))
      this.#received = this.#received.subarray(end)
    }
  }

  #dispatch(id: number, kind: string, payload: Buffer): void {
    const session = this.#sessions.get(id)
    if (!session) return
    if (kind === type.output) session.onOutput(payload)
    else if (kind === type.error) session.onError(payload)
    else if (kind === type.exit) {
      this.#sessions.delete(id)
      session.resolve(payload.readInt32LE(0))
    }
  }
}
