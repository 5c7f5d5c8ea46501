// SPDX-License-Identifier: GPL-2.0-or-later
import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Config, Errors, run, settings } from '@oclif/core'
import { asVblkError, reportError, wantsJson } from './base-command.ts'
import { failureEnvelope, toJsonLine } from './envelope.ts'
import { tolerateClosedOutput, writeStdout } from './output.ts'
import { unknownCommandError, usageError } from './usage-error.ts'

/**
 * Runs the command line and ends the process with the command's exit code.
 * @param root - the package's folder
 * @param code - the folder in it that the commands are loaded from: 'dist' or 'src'
 */
export async function main(root: string, code: 'dist' | 'src'): Promise<never> {
  tolerateClosedOutput()
  const argv = process.argv.slice(2)
  try {
    const config = await loadConfig(root, code)
    await runCommandLine(argv, config)
  } catch (thrown) {
    await reportFailure(thrown, argv)
  }
  // A handle left open, like a monitor that does not answer, must not keep a finished command alive.
  process.exit(process.exitCode)
}

async function loadConfig(packageRoot: string, code: 'dist' | 'src'): Promise<Config> {
  settings.enableAutoTranspile = false
  const pjson = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8'))
  // From src the manifest that a build left in the package's folder must not be found: it names the built commands.
  const root = code === 'src' ? join(packageRoot, code) : packageRoot
  pjson.oclif.commands = `./${relative(root, join(packageRoot, code, 'commands'))}`
  pjson.oclif.helpClass = `./${relative(root, fileURLToPath(new URL('./help', import.meta.url)))}`
  // A package in the caller's home would be loaded as code, by root as well.
  return Config.load({ root, pjson, userPlugins: false, devPlugins: false })
}

/**
 * oclif takes every word up to the first option for the command's name, and on a name that it doesn't know it asks "did
 * you mean" on the terminal. So it gets help, versions and topics; commands are found here.
 */
async function runCommandLine(argv: string[], config: Config): Promise<void> {
  const words = leadingWords(argv)
  const asksForHelp = beforeSeparator(argv).includes('--help')
  if (argv.length === 0 || asksForHelp || argv[0] === '--version') {
    await run(argv, config)
    return
  }
  for (let length = words.length; length > 0; length--) {
    const id = words.slice(0, length).join(':')
    if (config.findCommand(id)) {
      await config.runCommand(id, argv.slice(length))
      return
    }
  }
  if (words.length > 0 && config.findTopic(words.join(':')) && !wantsJson(argv)) {
    await run(words, config)
    return
  }
  const known = config.commandIDs.map((id) => id.replaceAll(':', ' '))
  throw unknownCommandError(words.join(' '), known)
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
  const error = asVblkError(thrown instanceof Errors.CLIError ? usageError(thrown, 'vblk') : thrown)
  process.exitCode = error.exitCode
  if (wantsJson(argv)) await writeStdout(toJsonLine(failureEnvelope(error, [])))
  else reportError(error)
}
