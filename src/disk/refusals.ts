// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import type { QmpCommandError } from '../qmp/index.ts'
import type { DiskSpec } from './spec.ts'

interface Meaning {
  pattern: RegExp
  code: string
  exitCode: ExitCode
  /** What is wrong, in our words; QEMU's follow. */
  what(spec: DiskSpec): string
  /** Whether it can be meant; unless given, yes. */
  concerns?(spec: DiskSpec, desc: string): boolean
  hint?: string
}

// QEMU has one error class for all of these: only its words tell them apart.
const meanings: Meaning[] = [
  {
    pattern: /vhost=on is not possible: .*\/dev\/vhost-blk/,
    code: 'NO_KERNEL_DATAPATH',
    exitCode: ExitCode.HostLacks,
    what: () => 'the kernel datapath is not available',
    hint: 'load the module with "vblk module load", or give --datapath auto',
  },
  {
    pattern: /vhost=on is not possible/,
    code: 'NO_KERNEL_DATAPATH',
    exitCode: ExitCode.HostLacks,
    what: () => 'the kernel datapath is not available',
    hint: 'see "vblk doctor", or give --datapath auto',
  },
  {
    pattern: /Failed to get .*lock/i,
    code: 'IMAGE_IN_USE',
    exitCode: ExitCode.Refused,
    what: (spec) => `${spec.source.file} is in use by another QEMU or by another disk of this one`,
    hint: 'detach it there first: two writers would destroy its data',
  },
  {
    pattern: /Permission denied|Operation not permitted/,
    code: 'SOURCE_NOT_READABLE',
    exitCode: ExitCode.Refused,
    what: (spec) => `QEMU may not open ${spec.source.file}`,
    hint: "check the file's owner and mode against the user that QEMU runs as, or have vblk open it: --pass-fd",
  },
  {
    pattern: /Read-only file system/,
    code: 'SOURCE_READ_ONLY',
    exitCode: ExitCode.Refused,
    what: (spec) => `${spec.source.file} is on a read-only medium`,
    hint: 'give --read-only to attach it for reading',
  },
  {
    pattern: /No such file or directory/,
    code: 'SOURCE_NOT_FOUND',
    exitCode: ExitCode.NotFound,
    what: (spec) => `QEMU does not see ${spec.source.file}`,
    hint: 'it may run in another mount namespace or chroot; vblk opens the file itself with --pass-fd',
  },
  {
    pattern: /O_DIRECT/,
    code: 'NO_O_DIRECT',
    exitCode: ExitCode.Refused,
    what: (spec) => `the file system of ${spec.source.file} has no O_DIRECT`,
    hint: 'give --cache writeback',
  },
  {
    pattern: /Device '.*' not found|Invalid parameter type for 'iothread'/,
    code: 'NO_SUCH_IOTHREAD',
    exitCode: ExitCode.Refused,
    what: (spec) => `this VM has no iothread ${spec.iothread}`,
    concerns: ({ iothread }, desc) =>
      iothread !== undefined && (desc.includes(`'${iothread}'`) || !desc.includes('Device')),
    hint: 'start QEMU with "-object iothread,id=…", or make one with QMP object-add',
  },
  {
    pattern: /Bus '.*' not found/,
    code: 'NO_SUCH_BUS',
    exitCode: ExitCode.Refused,
    what: (spec) => `this VM has no bus ${spec.bus}`,
  },
  {
    pattern: /does not support hotplugging|already occupied|is not hotpluggable|only slot 0/i,
    code: 'SLOT_UNUSABLE',
    exitCode: ExitCode.Refused,
    what: (spec) => `bus ${spec.bus ?? ''} does not take the disk`,
    hint: 'leave out --bus and --addr to use a free hot-plug port',
  },
]

/** What QEMU's refusal of an attach means to its user. */
export function explainRefusal(error: QmpCommandError, spec: DiskSpec): VblkError {
  const details = { command: error.request.execute, class: error.errorClass, desc: error.desc }
  const meaning = meanings.find(
    ({ pattern, concerns }) => pattern.test(error.desc) && (concerns?.(spec, error.desc) ?? true),
  )
  if (meaning === undefined) {
    return new VblkError('REFUSED_BY_QEMU', ExitCode.Refused, error.message, { cause: error, details })
  }
  const message = `${meaning.what(spec)}: ${error.desc}`
  const hint = meaning.hint === undefined ? {} : { hint: meaning.hint }
  return new VblkError(meaning.code, meaning.exitCode, message, { ...hint, cause: error, details })
}
