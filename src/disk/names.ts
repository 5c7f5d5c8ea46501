// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'

// A node name has at most 31 bytes (QEMU's BlockDriverState.node_name), and the longer of ours is vblk-ID-file.
const maxIdBytes = 31 - 'vblk-'.length - '-file'.length

/** The node that a disk's device uses: raw, on top of the one that opens the file. */
export function nodeName(id: string): string {
  return `vblk-${id}`
}

/** The node that opens the disk's file. It is part of nodeName's and goes with it. */
export function fileNodeName(id: string): string {
  return `${nodeName(id)}-file`
}

/** Throws VblkError (usage) unless QEMU takes the id (id_wellformed in QEMU's util/id.c) and its nodes can be named after it. */
export function checkId(id: string): void {
  if (/^[A-Za-z][A-Za-z0-9._-]*$/.test(id) && id.length <= maxIdBytes) return
  throw new VblkError(
    'BAD_ID',
    ExitCode.Usage,
    `'${id}' can't be a disk's id: a letter, then letters, digits, '-', '.' and '_', ${maxIdBytes} characters at most`,
  )
}
