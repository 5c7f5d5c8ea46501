// SPDX-License-Identifier: GPL-2.0-or-later

import type { DiskInfo } from '../disk/info.ts'
import { changeDue, notStarted } from '../disk/vhost-state.ts'
import { ExitCode, VblkError } from '../errors.ts'

/** Whether a reason ends by itself when the VM runs (native/qemu/eligible.c). */
const endsWithStart = (reason: string): boolean =>
  reason === '' || reason === notStarted || reason === changeDue || /^node '.*' is inactive$/.test(reason)

/** Throws VblkError (exit code 5) if a disk of the destination, whose VM is still to come, would not be served by the kernel. */
export function requireKernelThere(name: string, { kernel, type, reason }: DiskInfo): void {
  if (kernel === null) throw refusal(name, `a ${type} has no kernel datapath`)
  if (!endsWithStart(reason)) throw refusal(name, reason)
}

/** Whether a reason comes along with the VM: what its guest has negotiated, and settings that the twin of a disk gets too. */
const travels = (reason: string): boolean => /^the guest negotiated |^vhost=off$|^the disk is throttled$/.test(reason)

/** The same if QEMU serves the disk on the source for a reason that would come along. */
export function requireKernelHere(name: string, { kernel, datapath, reason }: DiskInfo): void {
  if (kernel !== null && datapath === 'userspace' && travels(reason)) throw refusal(name, reason)
}

function refusal(name: string, why: string): VblkError {
  return new VblkError(
    'NO_KERNEL_DATAPATH',
    ExitCode.Refused,
    `the kernel would not serve ${name} on the destination: ${why}`,
    { hint: 'leave out "--datapath kernel" to let QEMU serve it there' },
  )
}
