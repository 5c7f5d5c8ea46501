// SPDX-License-Identifier: GPL-2.0-or-later
import { Help } from '@oclif/core'
import { ExitCode } from '../errors.ts'

const MEANINGS: ReadonlyArray<readonly [ExitCode, string]> = [
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

/** oclif's help, with the exit codes below the list of commands. */
export default class VblkHelp extends Help {
  protected override async showRootHelp(): Promise<void> {
    await super.showRootHelp()
    const list = MEANINGS.map(([code, meaning]): [string, string] => [String(code), meaning])
    this.log(
      this.section(
        'EXIT CODES',
        this.renderList(list, { indentation: 2, spacer: '\n', stripAnsi: this.opts.stripAnsi ?? false }),
      ),
    )
    this.log('')
  }
}
