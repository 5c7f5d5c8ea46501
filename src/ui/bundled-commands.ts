// SPDX-License-Identifier: GPL-2.0-or-later
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Config } from '@oclif/core/config'
import type { BaseCommand } from './base-command.ts'
import type { CommandSet } from './command-set.ts'

type CommandClass = new (argv: string[], config: Config) => BaseCommand<unknown>

/** Loads the module of a command, by the command's id. */
export type CommandLoaders = Record<string, () => Promise<{ default: unknown }>>

/**
 * Commands that are part of the running program, so that nothing is searched or read to find them.
 * @param help - prints the help: rarely wanted, and so no part of the program
 * @param onCommand - hears the id of the command that runs
 */
export function bundledCommands(
  packageRoot: string,
  loaders: CommandLoaders,
  help: CommandSet['help'],
  onCommand: (id: string) => void,
): CommandSet {
  return {
    ids: Object.keys(loaders),
    run: async (id, argv) => {
      const command = (await loaders[id]?.())?.default as CommandClass & { id: string }
      command.id = id
      onCommand(id)
      await new command(argv, new BundledConfig(packageRoot)).run()
    },
    help,
  }
}

/** What a running command asks its configuration for. Loading a whole one searches folders for plugins and manifests. */
class BundledConfig extends Config {
  constructor(root: string) {
    const pjson = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
    super({ root, pjson })
    const { bin, topicSeparator } = pjson.oclif
    Object.assign(this, { root, pjson, bin, topicSeparator, version: pjson.version })
  }

  /** A hook would come from a plugin, and there are none. */
  override async runHook() {
    return { successes: [], failures: [] }
  }
}
