// SPDX-License-Identifier: GPL-2.0-or-later

/** A reader that has gone away (`vblk list | head -1`, a closed terminal) is no failure of the command. */
const READER_GONE = new Set(['EPIPE', 'EIO', 'ERR_STREAM_DESTROYED'])

/** Keeps a closed stdout or stderr from ending the process in the middle of a roll-back. */
export function tolerateClosedOutput(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (!READER_GONE.has(error.code ?? '')) throw error
    })
  }
}

/** Writes all of the text to stdout; returns when the kernel has it, or when nobody reads any more. */
export async function writeStdout(text: string): Promise<void> {
  await new Promise<void>((resolve) => process.stdout.write(text, () => resolve()))
}

/** One line of diagnostics. */
export function writeStderrLine(line: string): void {
  process.stderr.write(`${line}\n`)
}
