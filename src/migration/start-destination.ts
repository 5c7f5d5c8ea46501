// SPDX-License-Identifier: GPL-2.0-or-later

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pause } from '../disk/pause.ts'
import { ExitCode, VblkError } from '../errors.ts'
import { QmpConnectError, QmpConnectionLostError, QmpGreetingError } from '../qmp/index.ts'
import { resolveVm } from '../vm/resolve.ts'
import { openVm, withVm } from '../vm/vm.ts'

export interface StartOptions {
  /** Until its monitor answers. */
  timeoutMs: number
  signal: AbortSignal
}

const pollMs = 50
const wordsBytes = 4096

/**
 * Starts the QEMU of a destination by a program that gets its monitor's path as the only argument and may be the QEMU itself, and
 * waits for the monitor. Does nothing if somebody serves the monitor already. Throws VblkError: exit code 2 for a destination
 * that is no unix socket, 3 for no such program, 5 when it fails, 7 when the monitor doesn't come.
 *
 * @returns whether it was started
 */
export async function startDestination(program: string, name: string, options: StartOptions): Promise<boolean> {
  const route = await resolveVm(name)
  if (route.open !== undefined) {
    throw new VblkError('NOT_STARTABLE', ExitCode.Usage, `${name} is no unix socket of this host: it can't be started`)
  }
  if (await answers(name, options)) return false
  await runUntilMonitor(
    { file: path.resolve(program), args: [path.resolve(route.path)], shown: program },
    name,
    options,
  )
  return true
}

/** A program that becomes a QEMU, or puts one into the background. */
export interface Starter {
  file: string
  args: string[]
  /** What messages call it. */
  shown: string
  cwd?: string
  /** Its end is that of the QEMU. */
  isQemu?: boolean
}

/** Runs it until a monitor answers; throws as startDestination does, and then it has been ended. */
export async function runUntilMonitor(starter: Starter, name: string, options: StartOptions): Promise<void> {
  const { file, args, cwd } = starter
  const words = await openWords()
  try {
    const child = spawn(file, args, {
      // It outlives vblk, and Ctrl-C is not meant for it.
      detached: true,
      stdio: ['ignore', words.fd, words.fd],
      cwd,
    })
    child.unref()
    await awaitMonitor(child, starter, name, options, () => readWords(words))
  } finally {
    await words.close()
  }
}

const endMs = 10_000

/** Ends a QEMU that was started for a migration which did not begin; one that has gone since is no matter. */
export async function endUnused(name: string, warn: (message: string) => void): Promise<void> {
  try {
    await withVm(name, { timeoutMs: endMs }, async ({ qmp }) => {
      if ((await qmp.execute('query-status')).status === 'inmigrate') await qmp.execute('quit')
    })
  } catch (error) {
    const isEnding = error instanceof QmpGreetingError || error instanceof QmpConnectionLostError
    if (isAbsent(error) || isEnding) return
    warn(`${name} was started for the migration and can't be ended: ${(error as Error).message}`)
  }
}

/** Whether somebody serves a monitor. */
export async function answers(name: string, { signal, timeoutMs }: StartOptions): Promise<boolean> {
  try {
    const { qmp } = await openVm(name, { signal, timeoutMs })
    await qmp.close()
    return true
  } catch (error) {
    if (isAbsent(error)) return false
    throw error
  }
}

/** The same of one that has been started: it may listen long before it is ready, while memory is allocated. */
async function answersYet(name: string, options: StartOptions): Promise<boolean> {
  try {
    return await answers(name, options)
  } catch (error) {
    if (error instanceof QmpConnectError && error.code === 'VM_NOT_ANSWERING') return false
    throw error
  }
}

const isAbsent = (error: unknown): boolean =>
  error instanceof QmpConnectError && ['NO_SUCH_SOCKET', 'SOCKET_DEAD'].includes(error.code)

async function awaitMonitor(
  child: ChildProcess,
  { shown: program, isQemu = false }: Starter,
  name: string,
  options: StartOptions,
  read: () => Promise<string>,
): Promise<void> {
  const deadline = Date.now() + options.timeoutMs
  let failure: VblkError | undefined
  child.once('error', (cause: NodeJS.ErrnoException) => {
    const isMissing = cause.code === 'ENOENT'
    const why = isMissing ? 'there is no such program' : cause.message
    const exitCode = isMissing ? ExitCode.NotFound : ExitCode.Refused
    failure = new VblkError('DESTINATION_NOT_STARTED', exitCode, `${program} can't be run: ${why}`, { cause })
  })
  try {
    while (!(await answersYet(name, options))) {
      if (failure !== undefined) throw failure
      const { exitCode, signalCode } = child
      // One that has put its QEMU into the background ends well.
      if (signalCode !== null || (exitCode !== null && (exitCode !== 0 || isQemu))) {
        throw new VblkError(
          'DESTINATION_NOT_STARTED',
          ExitCode.Refused,
          `${program} ended with ${signalCode ?? `exit code ${exitCode}`}: ${(await read()) || 'it said nothing'}`,
        )
      }
      if (Date.now() >= deadline) {
        throw new VblkError(
          'DESTINATION_NOT_STARTED',
          ExitCode.RolledBack,
          `nobody serves ${name} yet, and the time is over: ${program} was ended`,
          {
            hint: `the program must start a QEMU with -qmp unix:${name},server=on,wait=off -incoming defer`,
          },
        )
      }
      await pause(pollMs, options.signal)
    }
  } catch (error) {
    endGroup(child)
    throw error
  }
}

function endGroup({ pid, exitCode, signalCode }: ChildProcess): void {
  // The number of a program that has ended may be another's.
  if (pid === undefined || exitCode !== null || signalCode !== null) return
  try {
    process.kill(-pid, 'SIGTERM')
  } catch {
    // All of it has ended.
  }
}

/** A file without a name for what the program says: a pipe would break when vblk ends. */
async function openWords() {
  const dir = await mkdtemp(path.join(tmpdir(), 'vblk-'))
  try {
    return await open(path.join(dir, 'words'), 'wx+', 0o600)
  } finally {
    await rm(dir, { recursive: true })
  }
}

/** The last line of it. */
async function readWords(file: Awaited<ReturnType<typeof openWords>>): Promise<string> {
  const { size } = await file.stat()
  const { buffer, bytesRead } = await file.read(Buffer.alloc(wordsBytes), 0, wordsBytes, Math.max(0, size - wordsBytes))
  return buffer.subarray(0, bytesRead).toString('utf8').trim().split('\n').at(-1) ?? ''
}
