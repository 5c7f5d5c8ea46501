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
    requireKnownCommand(argv, config)
    await run(argv, config)
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
  return Config.load({ root, pjson })
}

/** oclif would ask "did you mean" on the terminal and wait for the answer. */
function requireKnownCommand(argv: string[], config: Config): void {
  const end = argv.findIndex((word) => word.startsWith('-'))
  const words = end === -1 ? argv : argv.slice(0, end)
  const first = words[0]
  if (argv.length === 0 || argv.includes('--help') || argv[0] === '--version' || first === 'help') return
  const ids = config.commandIDs.map((id) => id.replaceAll(':', ' '))
  const prefixes = words.map((_, index) => words.slice(0, index + 1).join(' '))
  if (prefixes.some((prefix) => ids.includes(prefix))) return
  const isTopic = words.length > 0 && config.topics.some((topic) => topic.name.replaceAll(':', ' ') === words.join(' '))
  if (isTopic) return
  throw unknownCommandError(words.join(' '), ids)
}

async function reportFailure(thrown: unknown, argv: string[]): Promise<void> {
  const error = asVblkError(thrown instanceof Errors.CLIError ? usageError(thrown, 'vblk') : thrown)
  process.exitCode = error.exitCode
  if (wantsJson(argv)) await writeStdout(toJsonLine(failureEnvelope(error, [])))
  else reportError(error)
}
