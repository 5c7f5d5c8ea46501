// SPDX-License-Identifier: GPL-2.0-or-later

import path from 'node:path'
import { ExitCode, VblkError } from '../../errors.ts'
import type { StartOptions } from '../start-destination.ts'
import { OtherHost, type SshAddress } from './other-host.ts'

/** What the other host needs to say that the time is over. */
const graceMs = 30_000

/**
 * Starts the QEMU of a destination on another host, by a program there; as startDestination otherwise. Throws VblkError: what
 * startDestination and OtherHost.open throw, exit code 2 for a program whose path is not absolute.
 */
export async function startThere(program: string, address: SshAddress, options: StartOptions): Promise<boolean> {
  if (!path.isAbsolute(program)) {
    throw new VblkError('NOT_ABSOLUTE', ExitCode.Usage, `${program} is no absolute path`, {
      hint: `--start-destination runs it on ${address.destination}: give its path from / there`,
    })
  }
  const { timeoutMs, signal } = options
  const host = await OtherHost.open(address, { signal })
  try {
    return await host.ask(
      'start',
      { program, path: address.path, timeoutMs },
      { timeoutMs: timeoutMs + graceMs, signal },
    )
  } finally {
    // If it was not heard out, it ends the program.
    await host.close()
  }
}
