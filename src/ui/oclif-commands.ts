// SPDX-License-Identifier: GPL-2.0-or-later
import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { Config, settings } from '@oclif/core'
import type { CommandSet } from './command-set.ts'
import VblkHelp from './help.ts'

/**
 * The commands as oclif finds them in a folder, with their help.
 * @param packageRoot - the package's folder
 * @param code - the folder in it that the commands are loaded from: 'dist' or 'src'
 */
export async function oclifCommands(packageRoot: string, code: 'dist' | 'src'): Promise<CommandSet> {
  const config = await loadConfig(packageRoot, code)
  return {
    ids: config.commandIDs,
    run: async (id, argv) => {
      await config.runCommand(id, argv)
    },
    help: (argv) => showHelp(config, argv),
  }
}

/** Prints the help of an installed program: from its manifest, no command is loaded. */
export async function printHelp(packageRoot: string, argv: string[]): Promise<void> {
  await showHelp(await loadConfig(packageRoot, 'dist'), argv)
}

async function showHelp(config: Config, argv: string[]): Promise<void> {
  if (argv[0] === '--version') process.stdout.write(`${config.userAgent}\n`)
  else await new VblkHelp(config).showHelp(argv)
}

async function loadConfig(packageRoot: string, code: 'dist' | 'src'): Promise<Config> {
  settings.enableAutoTranspile = false
  const pjson = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8'))
  // From src the manifest that a build left in the package's folder must not be found: it names the built commands.
  const root = code === 'src' ? join(packageRoot, code) : packageRoot
  pjson.oclif.commands = `./${relative(root, join(packageRoot, code, 'commands'))}`
  // A package in the caller's home would be loaded as code, by root as well.
  return Config.load({ root, pjson, userPlugins: false, devPlugins: false })
}
