// SPDX-License-Identifier: GPL-2.0-or-later

import { readFileSync, statSync } from 'node:fs'
import type { DiskInfo } from '../../disk/info.ts'
import { checkSource, isSameSource, type Source } from '../../disk/source.ts'
import { ExitCode, VblkError } from '../../errors.ts'
import { diskName } from '../differences.ts'
import { hostOf } from '../hosts/host-of.ts'
import type { Sides } from '../options.ts'
import type { StorageCopy } from './copy.ts'

/** Which disks' storage goes along, by id: the destination's image, or undefined where the destination has the disk on one. */
export type CopyRequests = ReadonlyMap<string, string | undefined>

/** Throws VblkError unless the source has all disks that are to be copied (exit code 3), and both QEMUs are of this host (5). */
export function requireCopyable(
  { source, destination }: Sides,
  disks: readonly DiskInfo[],
  requests: CopyRequests,
): void {
  if (requests.size === 0) return
  if (hostOf(destination) !== undefined) {
    throw new VblkError(
      'COPY_NOT_BETWEEN_HOSTS',
      ExitCode.Refused,
      'storage is copied between two QEMUs of one host only',
      {
        hint: 'both hosts must share the disks: leave out --copy-storage',
      },
    )
  }
  const missing = [...requests.keys()].filter((id) => !disks.some((disk) => disk.id === id))
  if (missing.length === 0) return
  throw new VblkError('DISK_NOT_FOUND', ExitCode.NotFound, `${source.name} has no virtio disk ${missing.join(', ')}`, {
    hint: `see its disks with: vblk list ${source.name}`,
  })
}

/**
 * Checks that the contents of a disk can go to an image that is to become its counterpart's. Throws VblkError: exit code 3 when it is
 * missing, 5 for every other fault.
 */
export async function checkNewImage(disk: DiskInfo, file: string | undefined): Promise<Source> {
  const name = requireWritable(disk)
  if (file === undefined) {
    throw refusal(
      name,
      'the destination does not have it',
      `say on which image it shall be: --copy-storage ${name}=PATH`,
    )
  }
  const image = await checkImage(name, file, disk)
  requireSize(name, image.file, image.sizeBytes, disk.sizeBytes)
  if (disk.file !== null && (await isSameSource(disk.file, image.file))) throw same(name, image.file)
  if (isLocked(image.file)) throw refusal(name, `${image.file} is in use: a QEMU has locked it`)
  return image
}

/** Plans the copy of a disk to its counterpart's image, which the user may have named. Throws VblkError (exit code 5). */
export async function planCopy(disk: DiskInfo, there: DiskInfo, wanted: string | undefined): Promise<StorageCopy> {
  const name = requireWritable(disk)
  const { file, node } = there
  if (file === null || node === null) throw refusal(name, 'the destination has no medium for it')
  if (wanted !== undefined && !(await isSameSource(wanted, file)))
    throw refusal(name, `the destination has it on ${file}, not on ${wanted}`)
  if (disk.file !== null && (await isSameSource(disk.file, file))) throw same(name, file)
  requireSize(name, file, there.sizeBytes, disk.sizeBytes)
  return { file, node }
}

/** Returns what messages call the disk. */
function requireWritable(disk: DiskInfo): string {
  const name = diskName(disk)
  if (disk.readOnly) throw refusal(name, 'it is read-only, and so is its counterpart')
  if (disk.node === null) throw refusal(name, 'it has no medium')
  return name
}

async function checkImage(name: string, file: string, { sizeBytes }: DiskInfo): Promise<Source> {
  try {
    // What its old contents look like doesn't matter.
    return await checkSource(file, { readOnly: false, raw: true })
  } catch (error) {
    if (!(error instanceof VblkError)) throw error
    const hint = error.code === 'SOURCE_NOT_FOUND' ? `make it first: truncate -s ${sizeBytes} ${file}` : error.hint
    const options = { cause: error, ...(hint !== undefined && { hint }) }
    throw new VblkError(error.code, error.exitCode, `${name} can't be copied: ${error.message}`, options)
  }
}

function requireSize(name: string, file: string, bytes: number | null, wanted: number | null): void {
  if (bytes !== wanted) throw refusal(name, `${file} has ${bytes} bytes, not ${wanted}`)
}

const same = (name: string, file: string): VblkError =>
  refusal(name, `${file} is the image that it is on`, 'leave out --copy-storage for a disk that both QEMUs share')

/** Throws VblkError (exit code 5) if two disks would be copied to one image. */
export async function requireApart(disks: readonly { name: string; copy?: StorageCopy | undefined }[]): Promise<void> {
  const seen: { name: string; file: string }[] = []
  for (const { name, copy } of disks) {
    if (copy === undefined) continue
    for (const other of seen)
      if (await isSameSource(other.file, copy.file))
        throw refusal(name, `${copy.file} is the image for ${other.name} already`)
    seen.push({ name, file: copy.file })
  }
}

/** Whether a QEMU has locked a file, by /proc/locks (proc_locks(5)), as far as the kernel tells: the destination's makes sure. */
function isLocked(file: string): boolean {
  try {
    const { ino, dev } = statSync(file)
    // Linux's new_encode_dev: 12 bits of major in the middle, 20 bits of minor around them.
    const device = [(dev >>> 8) & 0xfff, (dev & 0xff) | ((dev >>> 12) & 0xfff00)]
    const where = `${device.map((number) => number.toString(16).padStart(2, '0')).join(':')}:${ino}`
    const locks = readFileSync('/proc/locks', 'utf8').split('\n')
    return locks.some((lock) => lock.includes('OFDLCK') && lock.split(/\s+/).includes(where))
  } catch {
    return false
  }
}

function refusal(name: string, why: string, hint?: string): VblkError {
  return new VblkError('STORAGE_NOT_COPYABLE', ExitCode.Refused, `${name} can't be copied: ${why}`, {
    ...(hint !== undefined && { hint }),
  })
}
