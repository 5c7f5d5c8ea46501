// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import { QmpCommandError } from '../qmp/index.ts'
import { requireHere } from '../vm/presence.ts'
import { requireLocal, type Vm } from '../vm/vm.ts'
import { type DiskInfo, requireDisk } from './info.ts'
import type { PlannedCommand } from './plan.ts'
import type { OperationOptions } from './report.ts'
import type { SizeRequest } from './size.ts'
import { readSourceSize } from './source.ts'

export interface ResizeOptions extends OperationOptions {
  /** What lies behind the new end may be lost. */
  shrink: boolean
}

export interface ResizeResult {
  id: string
  /** False when the disk had that size already. */
  changed: boolean
  bytesBefore: number
  /** The size after it, or that it would have. */
  bytes: number
  /** What was sent, or would be. */
  commands: PlannedCommand[]
  dryRun: boolean
}

/**
 * Gives a disk another size, and tells the guest. A file grows or shrinks; a block device was extended before, and the disk
 * takes on what it has. Without a size the disk takes that of its file or device. Throws VblkError: exit code 3 for no such
 * disk, 5 for a size that it can't have or QEMU's refusal, 9 while a job or a migration forbids it.
 */
export async function resizeDisk(
  vm: Vm,
  id: string,
  size: SizeRequest | undefined,
  options: ResizeOptions,
): Promise<ResizeResult> {
  const { signal, dryRun, report, shrink } = options
  requireLocal(vm, "the size of its disks' files can't be seen from here")
  const { node, file, sizeBytes } = await requireDisk(vm, id, { signal })
  if (node === null || file === null || sizeBytes === null) {
    throw refusal('NO_MEDIUM', `${id} has no medium that could be resized`)
  }
  const bytes = await wantedBytes({ id, file, sizeBytes }, size)
  const resize = { 'node-name': node, size: bytes }
  const result: ResizeResult = {
    id,
    changed: bytes !== sizeBytes,
    bytesBefore: sizeBytes,
    bytes,
    commands: [{ execute: 'block_resize', arguments: resize }],
    dryRun,
  }
  if (!result.changed) return { ...result, commands: [] }
  if (bytes < sizeBytes && !shrink) {
    throw refusal(
      'WOULD_SHRINK',
      `${id} has ${sizeBytes} bytes: with ${bytes} the guest would lose what is at its end`,
      {
        hint: 'give --shrink if nothing there is needed any more',
      },
    )
  }
  await requireHere(vm, { signal })
  if (dryRun) return { ...result, changed: false }
  signal.throwIfAborted()
  await report
    .step(`resizing ${id}`, () => vm.qmp.execute('block_resize', resize))
    .catch((error: Error) => {
      throw explainFailure(error, id)
    })
  await requireSize(vm, id, bytes, signal)
  return result
}

type SizedDisk = Pick<DiskInfo, 'id'> & { file: string; sizeBytes: number }

async function wantedBytes({ id, file, sizeBytes }: SizedDisk, size: SizeRequest | undefined): Promise<number> {
  const asked = size && (size.relative ? sizeBytes + size.bytes : size.bytes)
  const source = await readSourceSize(file)
  if (asked === undefined) return wholeSectors(source.bytes)
  if (source.isBlockDevice && asked !== source.bytes) {
    throw refusal('DEVICE_SIZE_DIFFERS', `${file} has ${source.bytes} bytes: ${id} can't have ${asked}`, {
      hint: `resize the device first, then: vblk resize VM ${id}`,
    })
  }
  return asked
}

/** The end of a file that is no whole sector isn't part of the disk. */
const wholeSectors = (bytes: number) => bytes - (bytes % 512)

async function requireSize(vm: Vm, id: string, bytes: number, signal: AbortSignal): Promise<void> {
  const { sizeBytes } = await requireDisk(vm, id, { signal })
  if (sizeBytes !== bytes) throw refusal('NOT_RESIZED', `${id} has ${sizeBytes} bytes after the resize, not ${bytes}`)
}

function explainFailure(error: Error, id: string): Error {
  if (!(error instanceof QmpCommandError)) return error
  const isBusy = /is busy|in use/.test(error.desc)
  return new VblkError(
    isBusy ? 'DISK_BUSY' : 'REFUSED_BY_QEMU',
    isBusy ? ExitCode.Busy : ExitCode.Refused,
    `QEMU refuses to resize ${id}: ${error.desc}`,
    { cause: error },
  )
}

function refusal(code: string, message: string, options: { hint?: string } = {}): VblkError {
  return new VblkError(code, ExitCode.Refused, message, options)
}
