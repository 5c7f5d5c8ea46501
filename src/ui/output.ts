// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode } from '../errors.ts'

/** A reader that has gone away (`vblk list | head -1`, a closed terminal) is no failure of the command. */
const READER_GONE = new Set(['EPIPE', 'EIO', 'ERR_STREAM_DESTROYED'])

let failure: NodeJS.ErrnoException | undefined

/** Keeps a stdout or stderr that is closed, or full, from ending the process in the middle of a roll-back. */
export function tolerateLostOutput(): void {
  for (const stream of [process.stdout, process.stderr]) {
    // oclif's throws whatever isn't EPIPE.
    stream.removeAllListeners('error')
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (stream === process.stdout && !READER_GONE.has(error.code ?? '')) failure ??= error
    })
  }
}

/** Says why the result has not been written, if it has not; then success is none, but an error keeps its exit code. */
export function reportLostOutput(): void {
  if (failure === undefined) return
  writeStderrLine(`Error: the result could not be written: ${failure.message}`)
  if (process.exitCode) return
  writeStderrLine('Hint: what was asked for has been done')
  process.exitCode = ExitCode.HostLacks
}

/** Writes all of the text to stdout; returns when the kernel has it, or when nobody reads any more. */
export async function writeStdout(text: string): Promise<void> {
  await new Promise<void>((resolve) => process.stdout.write(text, () => resolve()))
}

/** One line of diagnostics. */
export function writeStderrLine(line: string): void {
  process.stderr.write(`${line}\n`)
}
