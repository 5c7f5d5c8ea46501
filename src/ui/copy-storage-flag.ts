// SPDX-License-Identifier: GPL-2.0-or-later

import path from 'node:path'
import { Flags } from '@oclif/core'
import { ExitCode, VblkError } from '../errors.ts'
import type { CopyRequests } from '../migration/storage/plan-copy.ts'

/** Names the disks whose storage goes along. */
export const copyStorageFlag = () =>
  Flags.string({
    description:
      'copy the contents of a disk to another image, which the destination has for it, or at PATH, a file or block device of exactly its size that is overwritten; may be repeated',
    helpValue: 'DISK[=PATH]',
    multiple: true,
  })

/** Throws VblkError (usage) for a disk without a name, one that is named twice, and an empty path. */
export function copyRequests(values: readonly string[] | undefined): CopyRequests {
  const requests = new Map<string, string | undefined>()
  for (const value of values ?? []) {
    const at = value.indexOf('=')
    const [id, file] = at === -1 ? [value, undefined] : [value.slice(0, at), value.slice(at + 1)]
    if (id === '' || file === '') throw usage(`'${value}' is not DISK or DISK=PATH`)
    if (requests.has(id)) throw usage(`${id} is given twice`)
    requests.set(id, file === undefined ? undefined : path.resolve(file))
  }
  return requests
}

const usage = (why: string): VblkError => new VblkError('BAD_COPY_STORAGE', ExitCode.Usage, `--copy-storage: ${why}`)
