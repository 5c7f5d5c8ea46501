// SPDX-License-Identifier: GPL-2.0-or-later
// Stands between vblk and a real QEMU and passes everything on, so that a test can act at an exact moment.

import net from 'node:net'
import { createInterface, type Interface } from 'node:readline'

export type Moment = 'before' | 'after'
export type Hook = (command: string, moment: Moment) => Promise<void> | void
/** Gets a command and its reply, both as lines, and returns the reply to pass on. */
export type Rewrite = (command: string, reply: string) => string

export class QmpProxy {
  readonly #server: net.Server
  readonly #sockets: net.Socket[] = []

  private constructor(server: net.Server) {
    this.#server = server
  }

  /**
   * Listens on a path. The hook is awaited before each command is passed to QEMU, and after its reply came and before
   * it is passed back. What a reply says can be rewritten, for faults that QEMU doesn't have.
   */
  static async start(
    path: string,
    qemu: string,
    hook: Hook,
    rewrite: Rewrite = (_, reply) => reply,
  ): Promise<QmpProxy> {
    const server = net.createServer((client) => proxy.#join(client, net.connect(qemu), hook, rewrite))
    const proxy: QmpProxy = new QmpProxy(server)
    await new Promise<void>((resolve) => server.listen(path, resolve))
    return proxy
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #join(client: net.Socket, qemu: net.Socket, hook: Hook, rewrite: Rewrite): void {
    this.#sockets.push(client, qemu)
    client.on('close', () => qemu.destroy())
    qemu.on('close', () => client.destroy())
    const sent = new Map<string, { execute: string; line: string }>()
    // Lines stay in order even where a hook takes its time.
    let upstream = Promise.resolve()
    lines(client).on('line', (line) => {
      const { id, ...sentence } = JSON.parse(line) as { id: string } & Record<'execute' | 'exec-oob', string>
      const execute = sentence.execute ?? sentence['exec-oob']
      sent.set(id, { execute, line })
      upstream = upstream.then(async () => {
        await hook(execute, 'before')
        qemu.write(`${line}\n`)
      })
    })
    let downstream = Promise.resolve()
    lines(qemu).on('line', (line) => {
      const { id } = JSON.parse(line) as { id?: string }
      downstream = downstream.then(async () => {
        const command = id === undefined ? undefined : sent.get(id)
        if (command !== undefined) await hook(command.execute, 'after')
        client.write(`${command === undefined ? line : rewrite(command.line, line)}\r\n`)
      })
    })
  }
}

/** The lines of a socket; a reset by either end is part of the game. */
function lines(socket: net.Socket): Interface {
  socket.on('error', () => {})
  return createInterface({ input: socket }).on('error', () => {})
}
