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
/** What becomes of blocks that the guest discards: given back to the storage, or nothing. */
export type DiscardMode = 'unmap' | 'ignore'

/** A disk as its user asks for it. */
export interface DiskRequest {
  id: string
  file: string
  readOnly: boolean
  raw: boolean
  cache: CacheMode
  writeCache: WriteCacheSetting
  /** Unless given the kernel, or auto for a disk with limits: those are QEMU's to keep. */
  datapath?: DatapathChoice | undefined
  /** What the guest reads as the disk's identity; 20 bytes at most (virtio 1.3, 5.2.6). */
  serial?: string | undefined
  queues?: number | undefined
  /** A bus by name; the first free hot-plug port if not given. */
  bus?: string | undefined
  /** PCI slot, or slot and function, like '3' or '3.0'. */
  addr?: string | undefined
  /** In bytes, as the guest sees them; QEMU's choice if not given. */
  logicalBlockSize?: number | undefined
  physicalBlockSize?: number | undefined
  /** Unless given, unmap. */
  discard?: DiscardMode | undefined
  /** Limits of reads and writes together: bytes, and requests, per second. */
  bandwidth?: number | undefined
  iops?: number | undefined
  /** An iothread object of the VM, for the time that QEMU serves the disk. */
  iothread?: string | undefined
  /** vblk opens the files and passes their descriptors, for a QEMU that may not open them. */
  passFds?: boolean | undefined
}

/** A request whose values were checked and whose source was looked at. */
export interface DiskSpec extends DiskRequest {
  datapath: DatapathChoice
  discard: DiscardMode
  source: Source
}

const maxSerialBytes = 20
// VHOST_BLK_MAX_QUEUES in kmod/uapi/vhost_blk.h.
const maxQueues = 64
// MIN_BLOCK_SIZE and MAX_BLOCK_SIZE in QEMU's hw/core/qdev-prop-internal.h.
const minBlockBytes = 512
const maxBlockBytes = 2 << 20

/** Throws VblkError: exit code 2 for a value that no disk can have, 3 and 5 for a source that can't be used. */
export async function checkRequest(request: DiskRequest): Promise<DiskSpec> {
  checkId(request.id)
  const { serial, queues, addr, bus, iothread } = request
  if (serial !== undefined && !/^[\x20-\x7e]{1,20}$/.test(serial)) {
    throw usage('BAD_SERIAL', `serial '${serial}' is not 1 to ${maxSerialBytes} printable ASCII characters`)
  }
  if (queues !== undefined && !(Number.isInteger(queues) && queues >= 1 && queues <= maxQueues)) {
    throw usage('BAD_QUEUES', `a disk has 1 to ${maxQueues} queues, not ${queues}`)
  }
  if (addr !== undefined && !/^[01]?[0-9a-f](\.[0-7])?$/i.test(addr)) {
    throw usage('BAD_ADDR', `'${addr}' is not a PCI address like 3 or 3.0 (hexadecimal slot 0 to 1f, function 0 to 7)`)
  }
  if (iothread === '') throw usage('BAD_IOTHREAD', 'the id of the iothread is empty')
  if (bus === '') throw usage('BAD_BUS', 'the name of the bus is empty')
  checkBlockSizes(request)
  const datapath = checkLimits(request)
  const source = await checkSource(request.file, request)
  const block = request.logicalBlockSize
  if (block !== undefined && source.sizeBytes % block !== 0) {
    throw new VblkError(
      'SOURCE_SIZE',
      ExitCode.Refused,
      `${source.file} has ${source.sizeBytes} bytes, which is no multiple of the block size ${block}`,
      { hint: 'the guest could not reach its end; give it another size first' },
    )
  }
  // A descriptor that vblk was given exists in no other process.
  const passFds = request.passFds === true || source.descriptor !== undefined
  return { ...request, datapath, discard: request.discard ?? 'unmap', passFds, source }
}

function checkBlockSizes({ logicalBlockSize: logical, physicalBlockSize: physical }: DiskRequest): void {
  for (const size of [logical, physical]) {
    if (size === undefined) continue
    const isPower = Number.isInteger(size) && Number.isInteger(Math.log2(size))
    if (!isPower || size < minBlockBytes || size > maxBlockBytes) {
      throw usage('BAD_BLOCK_SIZE', `a block has 512, 1024 … ${maxBlockBytes} bytes, not ${size}`)
    }
  }
  if (physical !== undefined && physical < (logical ?? minBlockBytes)) {
    throw usage('BAD_BLOCK_SIZE', `the physical block size ${physical} is less than the logical one ${logical}`)
  }
}

/** @returns the datapath, which limits have a say in */
function checkLimits({ datapath, bandwidth, iops }: DiskRequest): DatapathChoice {
  for (const limit of [bandwidth, iops]) {
    if (limit !== undefined && !(Number.isSafeInteger(limit) && limit > 0)) {
      throw usage('BAD_LIMIT', `a limit is a whole number above 0, not ${limit}`)
    }
  }
  if (bandwidth === undefined && iops === undefined) return datapath ?? 'kernel'
  if (datapath !== 'kernel') return datapath ?? 'auto'
  throw new VblkError(
    'LIMITS_NEED_QEMU',
    ExitCode.Usage,
    'limits are kept by QEMU: the kernel serves no disk with limits',
    {
      hint: 'leave out --datapath: the kernel takes the disk as soon as its limits are lifted',
    },
  )
}

function usage(code: string, message: string): VblkError {
  return new VblkError(code, ExitCode.Usage, message)
}
