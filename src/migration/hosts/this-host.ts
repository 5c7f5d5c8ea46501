// SPDX-License-Identifier: GPL-2.0-or-later

import { readFileSync } from 'node:fs'
import type { ProcessIdentity } from '../journal/record.ts'
import { identifyDisk } from './disk-identity.ts'

/** What vblk finds out about the host that it runs on. The simulation has hosts of its own, and puts them here. */
export const thisHost = { machineId: readMachineId, identify: readProcess, disk: identifyDisk }

/** machine-id(5); undefined if there is none. */
function readMachineId(): string | undefined {
  try {
    return /^[0-9a-f]{32}$/.exec(readFileSync('/etc/machine-id', 'utf8').trim())?.[0]
  } catch {
    return undefined
  }
}

/** A process that lives now; undefined if there is none or /proc doesn't tell. */
function readProcess(pid: number): ProcessIdentity | undefined {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The second field is the command in parentheses, and may hold any character; startedAt is the 22nd (proc(5)).
    const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const startedAt = fields[18]
    // A zombie has closed all that it had open.
    return startedAt === undefined || state === 'Z' || state === 'X' ? undefined : { pid, startedAt, boot }
  } catch {
    return undefined
  }
}
