// SPDX-License-Identifier: GPL-2.0-or-later
import { CLIError } from '@oclif/core/errors'
import { asVblkError, reportError, wantsJson } from './base-command.ts'
import type { CommandSet } from './command-set.ts'
import { failureEnvelope, toJsonLine } from './envelope.ts'
import { tolerateClosedOutput, writeStdout } from './output.ts'
import { unknownCommandError, usageError } from './usage-error.ts'

/** Runs the command line and ends the process with the command's exit code. */
export async function main(load: () => CommandSet | Promise<CommandSet>): Promise<never> {
  tolerateClosedOutput()
  const argv = process.argv.slice(2)
  try {
    await runCommandLine(argv, await load())
  } catch (thrown) {
    await reportFailure(thrown, argv)
  }
  // A handle left open, like a monitor that does not answer, must not keep a finished command alive.
  process.exit(process.exitCode)
}

/**
 * oclif takes every word up to the first option for the command's name, and on a name that it doesn't know it asks "did
 * you mean" on the terminal. So it gets help, versions and topics; commands are found here.
 */
async function runCommandLine(argv: string[], commands: CommandSet): Promise<void> {
  const words = leadingWords(argv)
  const asksForHelp = beforeSeparator(argv).includes('--help')
  if (argv.length === 0 || asksForHelp || argv[0] === '--version' || words[0] === 'help') {
    await commands.help(argv)
    return
  }
  for (let length = words.length; length > 0; length--) {
    const id = words.slice(0, length).join(':')
    if (commands.ids.includes(id)) {
      await commands.run(id, argv.slice(length))
      return
    }
  }
  if (isTopic(words, commands) && !wantsJson(argv)) {
    await commands.help(words)
    return
  }
  const known = commands.ids.map((id) => id.replaceAll(':', ' '))
  throw unknownCommandError(words.join(' '), known)
}

function isTopic(words: string[], { ids }: CommandSet): boolean {
  return words.length > 0 && ids.some((id) => id.startsWith(`${words.join(':')}:`))
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
  const error = asVblkError(thrown instanceof CLIError ? usageError(thrown, 'vblk') : thrown)
  process.exitCode = error.exitCode
  if (wantsJson(argv)) await writeStdout(toJsonLine(failureEnvelope(error, [])))
  else reportError(error)
}
