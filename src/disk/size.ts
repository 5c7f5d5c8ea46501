// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'

const powers = { '': 0, B: 0, K: 1, M: 2, G: 3, T: 4, P: 5 } as const

/** Virtio counts a disk's size in sectors of this many bytes (virtio 1.3, 5.2.4). */
const sectorBytes = 512

/** A size as its user writes it: a number of bytes, or how many more than now. */
export interface SizeRequest {
  bytes: number
  relative: boolean
}

/**
 * Reads '10G', '1.5T', '10GiB', '1073741824' or '+5G'; the units are powers of 1024. Throws VblkError (usage) for anything
 * else, for what isn't whole sectors, and for nothing.
 */
export function parseSize(text: string): SizeRequest {
  const request = parseBytes(text)
  if (request.bytes % sectorBytes !== 0) throw usage(`${text} is not a multiple of ${sectorBytes} bytes`)
  return request
}

/** Reads how many bytes per second, like '100M'. Throws VblkError (usage) as parseSize does. */
export function parseRate(text: string): number {
  const { bytes, relative } = parseBytes(text)
  if (relative) throw usage(`'${text}' is no limit`)
  return bytes
}

function parseBytes(text: string): SizeRequest {
  const match = /^(\+?)(\d+(?:\.\d+)?)(?:([KMGTP])(?:iB)?|B)?$/i.exec(text)
  const [, plus, number, unit = ''] = match ?? []
  const bytes = Number(number) * 1024 ** powers[unit.toUpperCase() as keyof typeof powers]
  if (match === null || bytes === 0) {
    throw usage(`'${text}' is not a size like 10G, 1.5T, +5G or a number of bytes`)
  }
  if (!Number.isSafeInteger(bytes)) throw usage(`${text} is not a whole number of bytes that a disk can have`)
  return { bytes, relative: plus === '+' }
}

function usage(message: string): VblkError {
  return new VblkError('BAD_SIZE', ExitCode.Usage, message)
}
