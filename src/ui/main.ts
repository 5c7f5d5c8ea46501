// SPDX-License-Identifier: GPL-2.0-or-later
import { requireUtf8 } from './argument-encoding.ts'
import { asVblkError, reportError, wantsJson } from './base-command.ts'
import type { CommandSet } from './command-set.ts'
import { failureEnvelope, toJsonLine } from './envelope.ts'
import { reportLostOutput, tolerateLostOutput, writeStdout } from './output.ts'
import { unknownCommandError } from './usage-error.ts'

/** Runs the command line and ends the process with the command's exit code. */
export async function main(load: () => CommandSet | Promise<CommandSet>): Promise<never> {
  tolerateLostOutput()
  const argv = process.argv.slice(2)
  try {
    requireUtf8(argv)
    await runCommandLine(argv, await load())
  } catch (thrown) {
    await reportFailure(thrown, argv)
  }
  reportLostOutput()
  // A handle left open, like a monitor that does not answer, must not keep a finished command alive.
  process.exit(process.exitCode)
}

/**
 * oclif takes every word up to the first option for the command's name, and on a name that it doesn't know it asks "did
 * you mean" on the terminal. So it gets help and versions; commands are found here.
 */
async function runCommandLine(argv: string[], commands: CommandSet): Promise<void> {
  const words = leadingWords(argv)
  if (argv.length === 0 || argv[0] === '--version') {
    await commands.help(argv)
    return
  }
  if (words[0] === 'help' || beforeSeparator(argv).includes('--help')) {
    await commands.help(helpSubject(words[0] === 'help' ? words.slice(1) : words, commands))
    return
  }
  const command = knownBeginning(words, (id) => commands.ids.includes(id))
  if (command.length > 0) {
    await commands.run(command.join(':'), argv.slice(command.length))
    return
  }
  if (words.length > 0 && isTopic(words.join(':'), commands) && !wantsJson(argv)) {
    await commands.help(words)
    return
  }
  throw unknownCommand(words, commands)
}

/** The command or topic that words begin with. Throws for words that name neither. */
function helpSubject(words: string[], commands: CommandSet): string[] {
  const known = knownBeginning(words, (id) => commands.ids.includes(id) || isTopic(id, commands))
  if (words.length > 0 && known.length === 0) throw unknownCommand(words, commands)
  return known
}

function knownBeginning(words: string[], isKnown: (id: string) => boolean): string[] {
  for (let length = words.length; length > 0; length--) {
    const beginning = words.slice(0, length)
    if (isKnown(beginning.join(':'))) return beginning
  }
  return []
}

function isTopic(id: string, { ids }: CommandSet): boolean {
  return ids.some((other) => other.startsWith(`${id}:`))
}

function unknownCommand(words: string[], { ids }: CommandSet): Error {
  return unknownCommandError(
    words.join(' '),
    ids.map((id) => id.replaceAll(':', ' ')),
  )
}

function leadingWords(argv: string[]): string[] {
  const end = argv.findIndex((word) => word.startsWith('-'))
  return end === -1 ? argv : argv.slice(0, end)
}

function beforeSeparator(argv: string[]): string[] {
  const end = argv.indexOf('--')
  return end === -1 ? argv : argv.slice(0, end)
}

async function reportFailure(thrown: unknown, argv: string[]): Promise<void> {
  const error = asVblkError(thrown)
  process.exitCode = error.exitCode
  if (wantsJson(argv)) await writeStdout(toJsonLine(failureEnvelope(error, [])))
  else reportError(error)
}
