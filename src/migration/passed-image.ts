// SPDX-License-Identifier: GPL-2.0-or-later

import { fstatSync } from 'node:fs'
import { imageLabel } from '../disk/descriptors.ts'
import { isSameSource } from '../disk/source.ts'
import type { DiskSpec } from '../disk/spec.ts'
import { ExitCode, VblkError } from '../errors.ts'
import { closeFd, copyFd } from '../host/fd.ts'
import { allows, readFdFlags } from '../host/fd-flags.ts'
import type { WaitOptions } from '../qmp/index.ts'
import { findProcess } from '../vm/qemu-process.ts'
import type { Vm } from '../vm/vm.ts'

/**
 * Hands `use` a copy of the descriptor by which a QEMU has open the image that it says it was passed. vblk opens the image for
 * another QEMU, with rights that this one need not have: neither its word nor a path, which may lead elsewhere a moment later,
 * is enough. Throws VblkError (exit code 5) unless the image is open there as the disk needs it.
 */
export async function withPassedImage<T>(
  vm: Vm,
  spec: DiskSpec,
  wait: WaitOptions,
  use: (descriptor: number) => Promise<T>,
): Promise<T> {
  const copy = await copyImage(vm, spec, wait)
  try {
    return await use(copy)
  } finally {
    closeFd(copy)
  }
}

async function copyImage(vm: Vm, { id, source: { file }, readOnly }: DiskSpec, wait: WaitOptions): Promise<number> {
  const process = findProcess(vm)
  if (!('pid' in process)) throw refusal(vm, id, `its process can't be looked at: ${process.unknown}`)
  const sets = await vm.qmp.execute('query-fdsets', {}, wait)
  const passed = sets.flatMap(({ fds }) => fds.filter(({ opaque }) => opaque === imageLabel(id, file)))
  for (const { fd } of passed) {
    const copy = await copyIfOpen(process.pid, Number(fd), file, readOnly)
    if (copy !== undefined) return copy
  }
  throw refusal(vm, id, `it does not have ${file} open`)
}

/** Undefined unless that descriptor is of the file, and open as the disk needs it. */
async function copyIfOpen(pid: number, fd: number, file: string, readOnly: boolean): Promise<number | undefined> {
  let copy: number
  try {
    copy = copyFd(pid, fd)
  } catch {
    return undefined
  }
  try {
    const stats = fstatSync(copy)
    const isDisk = stats.isFile() || stats.isBlockDevice()
    const isIt = isDisk && allows(await readFdFlags('self', copy), readOnly)
    if (isIt && (await isSameSource(`/proc/self/fd/${copy}`, file))) return copy
  } catch {
    // As good as not open.
  }
  closeFd(copy)
  return undefined
}

function refusal(vm: Vm, id: string, why: string): VblkError {
  return new VblkError(
    'IMAGE_NOT_PASSED',
    ExitCode.Refused,
    `${vm.name}: ${id} was passed as a descriptor, but ${why}`,
    {
      hint: 'run vblk as root, or start the destination with the disk',
    },
  )
}
