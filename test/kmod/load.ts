// SPDX-License-Identifier: GPL-2.0-or-later
// The ring driver's verifying load (ring/load.c) in the lab's machine.
import type { RunningCommand } from '../lab/agent-client.ts'
import type { Lab } from '../lab/lab.ts'

export const ring = '/opt/vblk/lab/bin/ring'

/** How many requests were answered, of which kind, and how; all but `errors` and `unsupported` count those that succeeded. */
export interface LoadResult {
  completed: number
  reads: number
  writes: number
  flushes: number
  discards: number
  writeZeroes: number
  errors: number
  unsupported: number
  longestMs: number
  elapsedMs: number
}

/** Sums of VHOST_BLK_GET_STATS. */
export interface LoadStats {
  /** How many queues are paused. */
  paused: number
  inflight: number
  reads: number
  writes: number
  flushes: number
  errors: number
  held: number
}

const parse = (line: string) => JSON.parse(line) as unknown

/** What waits for a disk that hangs would wait for ever; what doesn't may still have to wait for the emulated machine. */
const answerMs = 30_000

/** A load at work. */
export class Load {
  readonly #command: RunningCommand
  readonly #exited: Promise<number>
  readonly #waiting: ((line: string) => void)[] = []
  #output = ''
  #last = ''

  /** Starts `ring load` with these arguments, in that cgroup if one is named. */
  constructor(lab: Lab, args: string[], cgroup?: string) {
    const move = cgroup === undefined ? '' : `echo $$ >${cgroup}/cgroup.procs; `
    this.#command = lab.spawn(['sh', '-c', `${move}exec "$@"`, 'sh', ring, 'load', ...args], {
      cwd: '/root',
      onOutput: (data) => this.#receive(data.toString()),
      onError: (data) => this.#receive(data.toString()),
    })
    this.#exited = this.#command.exited
    // Looked at in done() or gone(); a load that nobody waits for any more must not end the test run.
    this.#exited.catch(() => {})
  }

  #receive(text: string): void {
    this.#output += text
    const lines = this.#output.split('\n')
    this.#output = lines.pop() ?? ''
    for (const line of lines) {
      this.#last = line
      this.#waiting.shift()?.(line)
    }
  }

  /** Gives it a command that prints the module's counters; rejects if they take longer than that. */
  async #ask(command: string, timeoutMs: number): Promise<LoadStats> {
    const line = new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${command}: no counters within ${timeoutMs} ms`)), timeoutMs)
      this.#waiting.push((text) => {
        clearTimeout(timer)
        resolve(text)
      })
    })
    this.#command.input(Buffer.from(`${command}\n`))
    return parse(await line) as LoadStats
  }

  /** The module's counters now. */
  async stats(timeoutMs = answerMs): Promise<LoadStats> {
    return await this.#ask('stats', timeoutMs)
  }

  /** Pauses all queues, which waits for nothing in flight. */
  async pause(timeoutMs = answerMs): Promise<LoadStats> {
    return await this.#ask('pause', timeoutMs)
  }

  async resume(timeoutMs = answerMs): Promise<LoadStats> {
    return await this.#ask('resume', timeoutMs)
  }

  /** Executes anew what is held; it may be held again. */
  async retry(timeoutMs = answerMs): Promise<LoadStats> {
    return await this.#ask('retry', timeoutMs)
  }

  /** Waits until that many requests are answered. */
  async reached(requests: number, timeoutMs = 20_000): Promise<void> {
    const start = Date.now()
    for (;;) {
      const { reads, writes, flushes } = await this.stats(timeoutMs)
      if (reads + writes + flushes >= requests) return
      if (Date.now() - start > timeoutMs)
        throw new Error(`${reads + writes + flushes} of ${requests} requests within ${timeoutMs} ms`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  /** Its result; rejects with what it found if that is a fault. */
  async done(): Promise<LoadResult> {
    const exitCode = await this.#exited
    const said = `${this.#last}${this.#output}`
    if (exitCode !== 0) throw new Error(`ring load: exit ${exitCode}: ${said}`)
    return parse(said) as LoadResult
  }

  /** Lets what is in flight end, and no more begin. */
  async stop(): Promise<LoadResult> {
    this.#command.input(Buffer.from('stop\n'))
    return await this.done()
  }

  kill(): void {
    this.#command.kill(9)
  }

  /** Waits for its end, whatever it is; returns the exit code. */
  async gone(timeoutMs: number): Promise<number> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`the killed load is not gone after ${timeoutMs} ms`)), timeoutMs)
    })
    try {
      return await Promise.race([this.#exited, late])
    } finally {
      clearTimeout(timer)
    }
  }
}

/** Runs a load to its end. */
export async function runLoad(lab: Lab, args: string[], cgroup?: string): Promise<LoadResult> {
  return await new Load(lab, args, cgroup).done()
}

/** Compares what another process reads in the file with the load's state. */
export async function checkContent(
  lab: Lab,
  file: string,
  state: string,
  args: string[] = [],
): Promise<{ sectors: number; written: number }> {
  return parse(await lab.check([ring, 'check', '--file', file, '--state', state, ...args])) as {
    sectors: number
    written: number
  }
}
