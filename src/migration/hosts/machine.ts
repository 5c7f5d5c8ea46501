// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../../errors.ts'
import { thisHost } from './this-host.ts'

/** What this host is called by all that outlives a boot (machine-id(5)). Throws VblkError (exit code 4) if it has no name. */
export function machineId(): string {
  const id = thisHost.machineId()
  if (id !== undefined) return id
  throw new VblkError(
    'NO_MACHINE_ID',
    ExitCode.HostLacks,
    'this host has no machine id, by which hosts are told apart',
    {
      hint: 'systemd-machine-id-setup',
    },
  )
}

/** Whether a host of a record is this one. */
export const isThisHost = ({ machine }: { machine: string }): boolean => machine === thisHost.machineId()
