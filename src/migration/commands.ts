// SPDX-License-Identifier: GPL-2.0-or-later

import type { CommandArguments, CommandName, WaitOptions } from '../qmp/index.ts'
import type { Side, Sides } from './options.ts'

/** A QMP command and the side that it goes to. */
export type SideCommand = {
  [C in CommandName]: { side: Side; execute: C; arguments: CommandArguments<C> }
}[CommandName]

export function command<C extends CommandName>(side: Side, execute: C, args: CommandArguments<C>): SideCommand {
  return { side, execute, arguments: args } as SideCommand
}

/** Runs a command on its side. Throws what QmpClient.execute throws. */
export async function send(sides: Sides, { side, execute, arguments: args }: SideCommand, options: WaitOptions = {}) {
  // The pair of name and arguments was checked where it was made.
  await sides[side].qmp.execute(execute as 'stop', args as Record<string, never>, options)
}

/** Runs commands one after another. */
export async function sendAll(sides: Sides, commands: readonly SideCommand[], options: WaitOptions = {}) {
  for (const each of commands) await send(sides, each, options)
}
