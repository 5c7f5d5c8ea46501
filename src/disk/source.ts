// SPDX-License-Identifier: GPL-2.0-or-later

import { constants, type Stats } from 'node:fs'
import { access, open, readFile, readlink, stat } from 'node:fs/promises'
import path from 'node:path'
import { ExitCode, VblkError } from '../errors.ts'
import { allows, readFdFlags } from '../host/fd-flags.ts'
import { detectFormat, headerBytes } from './image-format.ts'

/** What holds a disk's data. */
export interface Source {
  /** Absolute. */
  file: string
  /** The QEMU block driver that opens it. */
  driver: 'file' | 'host_device'
  sizeBytes: number
  /** Of this process, if the user gave an open one instead of a path. */
  descriptor?: number
}

export interface SourceOptions {
  /** The guest only reads it. */
  readOnly: boolean
  /** Take its bytes as the disk even if they begin like an image format: a guest may have written them. */
  raw: boolean
}

/**
 * Checks that a file or block device can be a raw disk, as far as we can tell without QEMU. Throws VblkError: exit code
 * 3 when it is missing, 5 for every other fault.
 */
export async function checkSource(file: string, { readOnly, raw }: SourceOptions): Promise<Source> {
  const descriptor = parseDescriptor(file)
  const absolute = descriptor === undefined ? path.resolve(file) : await resolveDescriptor(descriptor, readOnly)
  const stats = await statSource(absolute)
  if (stats.isDirectory()) throw refusal('SOURCE_NOT_A_DISK', `${absolute} is a directory, not a disk image`)
  if (!stats.isFile() && !stats.isBlockDevice()) {
    throw refusal('SOURCE_NOT_A_DISK', `${absolute} is neither a regular file nor a block device`)
  }
  // Two writers, the host's file system and the guest, would destroy each other's data.
  const exclusively = stats.isBlockDevice() && !readOnly
  const format = detectFormat(await readHeader(absolute, exclusively))
  if (format !== undefined && !raw) {
    throw refusal('SOURCE_NOT_RAW', `${absolute} is not raw: it begins like a ${format} image`, {
      hint: `convert it with "qemu-img convert -O raw", or give --raw if the guest wrote that itself`,
    })
  }
  if (!readOnly) await requireWritable(absolute, stats)
  const sizeBytes = stats.isBlockDevice() ? await blockDeviceBytes(stats) : stats.size
  if (sizeBytes === 0) throw refusal('SOURCE_EMPTY', `${absolute} is empty: a disk needs a size`)
  const source = { file: absolute, driver: stats.isBlockDevice() ? 'host_device' : 'file', sizeBytes } as const
  return descriptor === undefined ? source : { ...source, descriptor }
}

/** The number in a name like /dev/fd/3; undefined for any other. */
function parseDescriptor(file: string): number | undefined {
  const digits = /^\/(?:dev|proc\/self)\/fd\/(\d{1,6})$/.exec(file)?.[1]
  return digits === undefined ? undefined : Number(digits)
}

/** The path of what an inherited descriptor has open, which must be open for what the disk needs. */
async function resolveDescriptor(descriptor: number, readOnly: boolean): Promise<string> {
  let target: string
  let flags: number
  try {
    target = await readlink(`/proc/self/fd/${descriptor}`)
    flags = await readFdFlags('self', descriptor)
  } catch (cause) {
    throw new VblkError('NO_SUCH_DESCRIPTOR', ExitCode.NotFound, `descriptor ${descriptor} is not open here`, {
      hint: 'open it in the shell that runs vblk, for example: 3<>FILE',
      cause,
    })
  }
  if (!allows(flags, readOnly)) {
    throw refusal(
      'DESCRIPTOR_MODE',
      `descriptor ${descriptor} (${target}) is not open for ${readOnly ? 'reading' : 'reading and writing'}`,
      { hint: readOnly ? 'open it with 3<FILE' : 'open it with 3<>FILE, or give --read-only' },
    )
  }
  // The text may be a name of a deleted file, or of another mount namespace.
  if (!path.isAbsolute(target) || !(await isSameSource(`/proc/self/fd/${descriptor}`, target))) {
    throw refusal('SOURCE_NOT_A_DISK', `descriptor ${descriptor} is of ${target}, which has no such path here`, {
      hint: 'a disk needs a name that others can compare: link the file somewhere',
    })
  }
  return target
}

/** The present size of a file or block device, in bytes, and which of them it is. Throws VblkError: exit codes 3 and 5. */
export async function readSourceSize(file: string): Promise<{ bytes: number; isBlockDevice: boolean }> {
  const stats = await statSource(file)
  const isBlockDevice = stats.isBlockDevice()
  return { bytes: isBlockDevice ? await blockDeviceBytes(stats) : stats.size, isBlockDevice }
}

/** Whether two paths lead to the same file or the same block device. */
export async function isSameSource(a: string, b: string): Promise<boolean> {
  if (a === b) return true
  try {
    const [first, second] = [await stat(a), await stat(b)]
    if (first.isBlockDevice() && second.isBlockDevice()) return first.rdev === second.rdev
    return first.dev === second.dev && first.ino === second.ino
  } catch {
    return false
  }
}

async function statSource(file: string): Promise<Stats> {
  try {
    return await stat(file)
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw new VblkError('SOURCE_NOT_FOUND', ExitCode.NotFound, `${file}: no such file or block device`, { cause })
    }
    throw refusal('SOURCE_NOT_READABLE', `${file}: ${(cause as Error).message}`, { cause })
  }
}

async function readHeader(file: string, exclusively: boolean): Promise<Buffer> {
  try {
    // O_EXCL on a block device fails while the host has claimed it: mounted, swap, or below a RAID, LVM or multipath.
    const handle = await open(file, constants.O_RDONLY | (exclusively ? constants.O_EXCL : 0))
    try {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(headerBytes), 0, headerBytes, 0)
      return buffer.subarray(0, bytesRead)
    } finally {
      await handle.close()
    }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EBUSY') {
      throw refusal('SOURCE_IN_USE', `${file} is in use by this host: mounted, swap, or part of another device`, {
        cause,
      })
    }
    throw refusal('SOURCE_NOT_READABLE', `${file} is not readable: ${(cause as Error).message}`, { cause })
  }
}

async function requireWritable(file: string, stats: Stats): Promise<void> {
  const hint = 'give --read-only to attach it for reading'
  try {
    await access(file, constants.W_OK)
  } catch (cause) {
    throw refusal('SOURCE_READ_ONLY', `${file} is not writable: ${(cause as Error).message}`, { hint, cause })
  }
  // access(2) says nothing of a block device that is set read-only.
  if (stats.isBlockDevice() && (await readSysfs(stats, 'ro')) === '1') {
    throw refusal('SOURCE_READ_ONLY', `${file} is a read-only block device`, { hint })
  }
}

async function blockDeviceBytes(stats: Stats): Promise<number> {
  // In sectors of 512 bytes, whatever the device's own are (Documentation/ABI/stable/sysfs-block).
  return Number(await readSysfs(stats, 'size')) * 512
}

async function readSysfs(stats: Stats, attribute: string): Promise<string> {
  // Linux's new_encode_dev: 12 bits of major in the middle, 20 bits of minor around them.
  const major = (stats.rdev >>> 8) & 0xfff
  const minor = (stats.rdev & 0xff) | ((stats.rdev >>> 12) & 0xfff00)
  const text = await readFile(`/sys/dev/block/${major}:${minor}/${attribute}`, 'utf8')
  return text.trim()
}

function refusal(code: string, message: string, options: { hint?: string; cause?: unknown } = {}): VblkError {
  return new VblkError(code, ExitCode.Refused, message, options)
}
