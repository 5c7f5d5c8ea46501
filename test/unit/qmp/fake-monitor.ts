// SPDX-License-Identifier: GPL-2.0-or-later
// A QMP monitor that does what a test says: for the failures that a real QEMU doesn't produce on demand.

import { mkdtemp, rm } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

export const greeting =
  '{"QMP": {"version": {"qemu": {"micro": 13, "minor": 0, "major": 10}, "package": "Debian 1:10.0.13+ds-0+deb13u1"}, "capabilities": ["oob"]}}'

export interface Command {
  execute: string
  // biome-ignore lint/suspicious/noExplicitAny: a test knows what it sent
  arguments: any
  id: string
}

/** One client's connection, as the monitor sees it. */
export interface Peer {
  socket: net.Socket
  /** Sends a line; what isn't text goes as JSON. */
  send(line: unknown): void
  /** Sends bytes as they are. */
  write(bytes: string | Buffer): void
}

export type Script = (command: Command, peer: Peer) => void

/** Answers as QEMU does when a command went well. */
export const reply = (peer: Peer, command: Command, value: unknown = {}) => peer.send({ return: value, id: command.id })

/** Answers as QEMU does when it refuses. */
export const refuse = (peer: Peer, command: Command, desc: string, className = 'GenericError') =>
  peer.send({ error: { class: className, desc }, id: command.id })

/** Answers every command with success, but those that have a script of their own. */
export function answerAll(scripts: Record<string, Script> = {}): Script {
  return (command, peer) => (scripts[command.execute] ?? succeed)(command, peer)
}

const succeed: Script = (command, peer) => reply(peer, command)

export class FakeMonitor {
  readonly path: string
  readonly received: Command[] = []
  readonly peers: Peer[] = []
  readonly #dir: string
  readonly #server: net.Server

  private constructor(dir: string, server: net.Server) {
    this.#dir = dir
    this.path = join(dir, 'qmp.sock')
    this.#server = server
  }

  /**
   * Listens, greets, and leaves every command to the script; answerAll(…) does what most want. A greeting of `null`
   * leaves the connection silent.
   */
  static async start(script: Script, greet: string | null = `${greeting}\r\n`): Promise<FakeMonitor> {
    const dir = await mkdtemp(join(tmpdir(), 'vblk-qmp-'))
    const monitor: FakeMonitor = new FakeMonitor(
      dir,
      net.createServer((socket) => monitor.#serve(socket, script, greet)),
    )
    await new Promise<void>((resolve) => monitor.#server.listen(monitor.path, resolve))
    return monitor
  }

  /** Sends a line to every client. */
  broadcast(line: unknown): void {
    for (const peer of this.peers) peer.send(line)
  }

  /** The names of the commands that came, in order, without the negotiation. */
  get commands(): string[] {
    return this.received.map((command) => command.execute).filter((name) => name !== 'qmp_capabilities')
  }

  async stop(): Promise<void> {
    for (const peer of this.peers) peer.socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
    await rm(this.#dir, { recursive: true, force: true })
  }

  #serve(socket: net.Socket, script: Script, greet: string | null): void {
    const peer: Peer = {
      socket,
      send: (line) => socket.write(`${typeof line === 'string' ? line : JSON.stringify(line)}\r\n`),
      write: (bytes) => socket.write(bytes),
    }
    this.peers.push(peer)
    socket.on('error', () => {})
    if (greet !== null) peer.write(greet)
    const lines = createInterface({ input: socket }).on('error', () => {})
    lines.on('line', (line) => {
      const command = JSON.parse(line) as Command
      this.received.push(command)
      script(command, peer)
    })
  }
}
