// SPDX-License-Identifier: GPL-2.0-or-later
import type { RunningCommand } from './agent-client.ts'
import type { Lab } from './lab.ts'
import { TimeoutError } from './timeout-error.ts'

interface Waiting {
  resolve: (value: unknown) => void
  reject: (error: Error) => void
}

export interface QmpEvent {
  event: string
  data?: Record<string, unknown>
}

/** A QMP monitor in L1, reached through the agent: for the tests' own questions to a guest's QEMU. */
export class Monitor {
  readonly #channel: RunningCommand
  readonly #waiting = new Map<number, Waiting>()
  /** What QEMU has told unasked, since the connection was made. */
  readonly events: QmpEvent[] = []
  #received = ''
  #next = 1

  constructor(lab: Lab, socket: string) {
    this.#channel = lab.spawn(['socat', '-', `UNIX-CONNECT:${socket}`], {
      cwd: '/',
      onOutput: (data) => this.#receive(data),
      onError: () => {},
    })
    const ended = () => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`the monitor ${socket} closed`))
      this.#waiting.clear()
    }
    this.#channel.exited.then(ended, ended)
    this.ask('qmp_capabilities').catch(() => {})
  }

  /**
   * @returns what QEMU returns
   * @throws Error with QEMU's words for a refusal
   * @throws TimeoutError if there is no answer within half a minute
   */
  async ask(command: string, args: Record<string, unknown> = {}): Promise<unknown> {
    const id = this.#next++
    const answer = new Promise<unknown>((resolve, reject) => this.#waiting.set(id, { resolve, reject }))
    const late = () => this.#waiting.get(id)?.reject(new TimeoutError(`${command}: no answer from the monitor`))
    const timer = setTimeout(late, 30_000)
    this.#channel.input(Buffer.from(`${JSON.stringify({ execute: command, arguments: args, id })}\n`))
    try {
      return await answer
    } catch (error) {
      if (error instanceof TimeoutError) throw error
      throw new Error(`${command}: ${(error as Error).message}`)
    } finally {
      clearTimeout(timer)
      this.#waiting.delete(id)
    }
  }

  #receive(data: Buffer): void {
    const lines = `${this.#received}${data}`.split('\n')
    this.#received = lines.pop() ?? ''
    for (const line of lines.filter((text) => text.trim())) {
      const reply = JSON.parse(line)
      if (reply.event) this.events.push(reply)
      const waiting = this.#waiting.get(reply.id)
      if (reply.error) waiting?.reject(new Error(reply.error.desc))
      else waiting?.resolve(reply.return)
    }
  }
}
