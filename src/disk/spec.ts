// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import { checkId } from './names.ts'
import { checkSource, type Source } from './source.ts'

/** How QEMU reads and writes the source: past the host's page cache (O_DIRECT), or through it. */
export type CacheMode = 'none' | 'writeback'
/** The write cache that the guest sees at first; auto leaves it to QEMU. */
export type WriteCacheSetting = 'auto' | 'writeback' | 'writethrough'
/** Who serves the disk: the host kernel (it must be able to), QEMU, or the kernel where it can. */
export type DatapathChoice = 'kernel' | 'userspace' | 'auto'

/** A disk as its user asks for it. */
export interface DiskRequest {
  id: string
  file: string
  readOnly: boolean
  raw: boolean
  cache: CacheMode
  writeCache: WriteCacheSetting
  datapath: DatapathChoice
  /** What the guest reads as the disk's identity; 20 bytes at most (virtio 1.3, 5.2.6). */
  serial?: string | undefined
  queues?: number | undefined
  /** A bus by name; the first free hot-plug port if not given. */
  bus?: string | undefined
  /** PCI slot, or slot and function, like '3' or '3.0'. */
  addr?: string | undefined
}

/** A request whose values were checked and whose source was looked at. */
export interface DiskSpec extends DiskRequest {
  source: Source
}

const maxSerialBytes = 20
// VHOST_BLK_MAX_QUEUES in kmod/uapi/vhost_blk.h.
const maxQueues = 64

/** Throws VblkError: exit code 2 for a value that no disk can have, 3 and 5 for a source that can't be used. */
export async function checkRequest(request: DiskRequest): Promise<DiskSpec> {
  checkId(request.id)
  const { serial, queues, addr, bus } = request
  if (serial !== undefined && !/^[\x20-\x7e]{1,20}$/.test(serial)) {
    throw usage('BAD_SERIAL', `serial '${serial}' is not 1 to ${maxSerialBytes} printable ASCII characters`)
  }
  if (queues !== undefined && !(Number.isInteger(queues) && queues >= 1 && queues <= maxQueues)) {
    throw usage('BAD_QUEUES', `a disk has 1 to ${maxQueues} queues, not ${queues}`)
  }
  if (addr !== undefined && !/^[01]?[0-9a-f](\.[0-7])?$/i.test(addr)) {
    throw usage('BAD_ADDR', `'${addr}' is not a PCI address like 3 or 3.0 (hexadecimal slot 0 to 1f, function 0 to 7)`)
  }
  if (bus === '') throw usage('BAD_BUS', 'the name of the bus is empty')
  return { ...request, source: await checkSource(request.file, request) }
}

function usage(code: string, message: string): VblkError {
  return new VblkError(code, ExitCode.Usage, message)
}
