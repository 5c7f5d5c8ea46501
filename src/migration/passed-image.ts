// SPDX-License-Identifier: GPL-2.0-or-later

import { constants } from 'node:fs'
import { imageLabel } from '../disk/descriptors.ts'
import { isSameSource } from '../disk/source.ts'
import type { DiskSpec } from '../disk/spec.ts'
import { ExitCode, VblkError } from '../errors.ts'
import { readFdFlags } from '../host/fd-flags.ts'
import type { WaitOptions } from '../qmp/index.ts'
import { findProcess } from '../vm/qemu-process.ts'
import type { Vm } from '../vm/vm.ts'

/**
 * Throws VblkError (exit code 5) unless the QEMU that says it was passed a disk's image has it open, for writing if the disk is
 * written. vblk opens the file for another QEMU, with rights that this one need not have: its word is not enough.
 */
export async function requirePassedImage(
  vm: Vm,
  { id, source: { file }, readOnly }: DiskSpec,
  wait: WaitOptions,
): Promise<void> {
  const process = findProcess(vm)
  const sets = await vm.qmp.execute('query-fdsets', {}, wait)
  const passed = sets.flatMap(({ fds }) => fds.filter(({ opaque }) => opaque === imageLabel(id, file)))
  for (const { fd } of 'pid' in process ? passed : []) {
    if ('pid' in process && (await hasOpen(process.pid, Number(fd), file, readOnly))) return
  }
  const why = 'pid' in process ? `it does not have ${file} open` : `its process can't be looked at: ${process.unknown}`
  throw new VblkError(
    'IMAGE_NOT_PASSED',
    ExitCode.Refused,
    `${vm.name}: ${id} was passed as a descriptor, but ${why}`,
    {
      hint: 'run vblk as root, or start the destination with the disk',
    },
  )
}

async function hasOpen(pid: number, fd: number, file: string, readOnly: boolean): Promise<boolean> {
  try {
    const flags = await readFdFlags(pid, fd)
    const isEnough = readOnly || (flags & (constants.O_WRONLY | constants.O_RDWR)) === constants.O_RDWR
    return isEnough && (await isSameSource(`/proc/${pid}/fd/${fd}`, file))
  } catch {
    return false
  }
}
