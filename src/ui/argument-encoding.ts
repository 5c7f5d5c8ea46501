// SPDX-License-Identifier: GPL-2.0-or-later
import { isUtf8 } from 'node:buffer'
import { readFileSync } from 'node:fs'
import { ExitCode, VblkError } from '../errors.ts'

/** What Node puts in the place of bytes that are no UTF-8: such an argument would name another file, if any. */
const replacement = '\ufffd'

/** Throws VblkError (exit code 2) for a command line with an argument that is not UTF-8. */
export function requireUtf8(argv: readonly string[]): void {
  const word = argv.find((argument) => argument.includes(replacement))
  // The character itself is a good one, if rare.
  if (word === undefined || isUtf8(readFileSync('/proc/self/cmdline'))) return
  throw new VblkError('NOT_UTF8', ExitCode.Usage, `the argument '${word}' is not UTF-8`, {
    hint: 'vblk and QMP can name no such file: rename it, or give it a second name with ln',
  })
}
