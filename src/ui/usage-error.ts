// SPDX-License-Identifier: GPL-2.0-or-later
import { stripVTControlCharacters } from 'node:util'
import { ExitCode, VblkError } from '../errors.ts'

/** What oclif's parse errors carry; their classes are not exported by its main module. */
interface ParseErrorFields {
  message: string
  args?: ReadonlyArray<string | { name: string }>
  flags?: readonly string[]
}

/**
 * One line for what oclif's parser objected to: its own messages span lines, list every argument's description and
 * end in advice.
 * @param commandLine - how the command is called, for the hint: `vblk attach`
 */
export function usageError(error: Error, commandLine: string): VblkError {
  return new VblkError('USAGE', ExitCode.Usage, parseErrorMessage(error as ParseErrorFields), {
    hint: `see: ${commandLine} --help`,
    cause: error,
  })
}

function parseErrorMessage({ message, args, flags }: ParseErrorFields): string {
  if (message.startsWith('Missing') && args) {
    const names = args.map((arg) => (typeof arg === 'string' ? arg : arg.name).toUpperCase())
    return `missing argument${names.length > 1 ? 's' : ''} ${names.join(', ')}`
  }
  if (message.startsWith('Nonexistent') && flags) return `no such option: ${flags.join(', ')}`
  const flag = /^Parsing (\S+) \n\t/.exec(message)
  const line = stripVTControlCharacters(flag ? message.slice(flag[0].length) : message)
    .replace(/\n?See more help with --help$/, '')
    .replace(/^The following errors? occurred:/, '')
    .replace(/\s+/g, ' ')
    .trim()
  return (flag ? `${flag[1]}: ` : '') + line.charAt(0).toLowerCase() + line.slice(1)
}

/** A command line that names no command. */
export function unknownCommandError(words: string, known: string[]): VblkError {
  const near = closest(words, known)
  return new VblkError('USAGE', ExitCode.Usage, words === '' ? 'no command given' : `no such command: ${words}`, {
    hint: near ? `did you mean: vblk ${near}` : 'see: vblk --help',
  })
}

/** The known word within two edits of the given one, if there is one. */
function closest(word: string, known: string[]): string | undefined {
  const ranked = known
    .map((name) => ({ name, distance: editDistance(word, name) }))
    .sort((a, b) => a.distance - b.distance)
  const best = ranked[0]
  return best && best.distance <= 2 ? best.name : undefined
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const substitution = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(substitution, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
