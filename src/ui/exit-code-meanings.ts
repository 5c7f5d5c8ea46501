// SPDX-License-Identifier: GPL-2.0-or-later
import { ExitCode } from '../errors.ts'

/** What each exit code tells, for the help and the man page. */
export const exitCodeMeanings: ReadonlyArray<readonly [ExitCode, string]> = [
  [ExitCode.Ok, 'done, or it was so already'],
  [ExitCode.Bug, 'a bug in vblk'],
  [ExitCode.Usage, 'wrong usage'],
  [ExitCode.NotFound, 'VM, disk or file not found'],
  [ExitCode.HostLacks, 'this host lacks something; the message names the command that mends it'],
  [ExitCode.Refused, 'refused by QEMU or the guest, or what exists differs from what was asked'],
  [ExitCode.TimedOut, 'timed out and still pending; the message says how to ask again'],
  [ExitCode.RolledBack, 'failed, and rolled back to the state before'],
  [ExitCode.Unknown, 'outcome unknown; see: vblk migrate --help'],
  [ExitCode.Busy, 'busy: another vblk, client or job holds this VM or device'],
  [ExitCode.Interrupted, 'interrupted by a signal, and rolled back'],
]
