// SPDX-License-Identifier: GPL-2.0-or-later
import { ExitCode, VblkError } from '../errors.ts'

export interface ToolOptions {
  signal?: AbortSignal
  timeoutMs?: number
  /** The package to install if the program is missing. */
  package: string
  /** Called with each line that the program prints, on either stream. */
  onLine?: (line: string) => void
}

export interface ToolResult {
  exitCode: number
  /** The last lines that it printed, on either stream. */
  tail: string[]
  stdout: string
}

/** How many of the last lines are kept for a report. */
const TAIL_LINES = 20

const DEFAULT_TIMEOUT_MS = 60_000

/** How long a program may take to end by itself after SIGTERM. */
const KILL_AFTER_MS = 5000

/**
 * Runs a program to its end, whatever its exit code. An abort or the time limit ends it and all that it has started.
 * @throws VblkError HostLacks if it is missing, TimedOut after the time limit, the signal's reason after an abort
 */
export async function runTool(file: string, args: readonly string[], options: ToolOptions): Promise<ToolResult> {
  options.signal?.throwIfAborted()
  const { execa } = await import('execa')
  const tail: string[] = []
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS
  const limit = AbortSignal.timeout(timeoutMs)
  const stop = options.signal ? AbortSignal.any([options.signal, limit]) : limit
  // A group of its own: make and shell scripts leave what they started behind when they alone are killed.
  const child = execa(file, args, {
    detached: true,
    reject: false,
    all: true,
    stdin: 'ignore',
    env: { PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C.UTF-8' },
  })
  const end = () => endGroup(child.pid)
  stop.addEventListener('abort', end, { once: true })
  if (stop.aborted) end()
  try {
    for await (const line of child.iterable({ from: 'all' })) {
      tail.push(line)
      if (tail.length > TAIL_LINES) tail.shift()
      options.onLine?.(line)
    }
    const result = await child
    options.signal?.throwIfAborted()
    if (limit.aborted) throw timedOut(file, timeoutMs)
    if (result.exitCode === undefined && result.signal === undefined) throw notStarted(file, options.package, result)
    return { exitCode: result.exitCode ?? 128, tail, stdout: result.stdout }
  } finally {
    stop.removeEventListener('abort', end)
  }
}

function endGroup(pid: number | undefined): void {
  if (pid === undefined) return
  signalGroup(pid, 'SIGTERM')
  setTimeout(() => signalGroup(pid, 'SIGKILL'), KILL_AFTER_MS).unref()
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal)
  } catch {
    // It has ended already.
  }
}

function timedOut(file: string, timeoutMs: number): VblkError {
  return new VblkError('TIMED_OUT', ExitCode.TimedOut, `${file} was stopped after ${timeoutMs / 1000} s`, {
    hint: 'run the command again with a longer --timeout; what was finished is kept',
  })
}

function notStarted(
  file: string,
  packageName: string,
  result: { code?: string | undefined; cause?: unknown },
): VblkError {
  const reason = result.code === 'ENOENT' ? 'is not installed' : `cannot be started: ${result.code ?? 'unknown reason'}`
  return new VblkError('NO_TOOL', ExitCode.HostLacks, `${file} ${reason}`, {
    hint: `apt-get install ${packageName}`,
    cause: result.cause,
  })
}
