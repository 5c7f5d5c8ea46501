// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../../errors.ts'
import { QmpCommandError } from '../../qmp/index.ts'
import { userfaultfdHint } from './userfaultfd.ts'

/** What QEMU says, when the capability is set, of a host or a VM's memory that postcopy can't be had with; any other error as it is. */
export function explainPostcopy(error: unknown): unknown {
  if (!(error instanceof QmpCommandError) || error.request.execute !== 'migrate-set-capabilities') return error
  if (!/postcopy|userfault/i.test(error.desc)) return error
  return new VblkError('NO_POSTCOPY', ExitCode.HostLacks, error.message, {
    hint: `${userfaultfdHint}; and every block of its memory must be of a kind that userfaultfd knows`,
    cause: error,
  })
}
