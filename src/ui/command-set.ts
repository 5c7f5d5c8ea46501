// SPDX-License-Identifier: GPL-2.0-or-later

/** The commands of a program, wherever they come from. An id's words are joined by colons: `module:build`. */
export interface CommandSet {
  ids: string[]
  /** Runs a command to its end; it sets process.exitCode and throws nothing that it foresees. */
  run(id: string, argv: string[]): Promise<void>
  /** Prints the help or the version that the whole command line asks for. */
  help(argv: string[]): Promise<void>
}
