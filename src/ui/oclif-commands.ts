// SPDX-License-Identifier: GPL-2.0-or-later
import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Config, run, settings } from '@oclif/core'
import type { CommandSet } from './command-set.ts'

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
    help: async (argv) => {
      await run(argv, config)
    },
  }
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
