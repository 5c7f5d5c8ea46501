// SPDX-License-Identifier: GPL-2.0-or-later
import { constants } from 'node:fs'
import { closeFd, ioctl, openFd } from './fd.ts'

/** Figures of kmod/uapi/vhost_blk.h; a unit test compares them with what the compiler makes of it. */
export const DEVICE_PATH = '/dev/vhost-blk'
export const ABI_VERSION = 2
export const VHOST_BLK_GET_INFO = 0x8038af51
export const VHOST_BLK_GET_STATS = 0xc080af54
export const VHOST_BLK_GET_LATENCY = 0xc340af59
export const LATENCY_BUCKETS = 102
const INFO_SIZE = 56
export const STATS_SIZE = 128
export const LATENCY_SIZE = 16 + 8 * LATENCY_BUCKETS

/** struct vhost_blk_info. */
export interface VhostBlkInfo {
  abiVersion: number
  /** Most queues on one descriptor. */
  maxQueues: number
}

/**
 * Asks the loaded module what it is (VHOST_BLK_GET_INFO). Opening alone reserves nothing: ownership needs VHOST_SET_OWNER.
 * @throws an Error with code, errno and syscall: ENOENT without the module, EACCES, ENOTTY from another kind of device
 */
export function readInfo(path = DEVICE_PATH): VhostBlkInfo {
  const fd = openFd(path, constants.O_RDWR | constants.O_NONBLOCK)
  try {
    return readInfoOf(fd)
  } finally {
    closeFd(fd)
  }
}

/** The same of an open descriptor. @throws an Error with code, errno and syscall: ENOTTY from another kind of device */
export function readInfoOf(fd: number): VhostBlkInfo {
  const info = Buffer.alloc(INFO_SIZE)
  ioctl(fd, VHOST_BLK_GET_INFO, info)
  return { abiVersion: info.readUInt32LE(0), maxQueues: info.readUInt32LE(4) }
}

/** The kinds of request whose times the module counts apart, in the order of VHOST_BLK_LATENCY_*. */
export const latencyTypes = ['read', 'write', 'flush', 'other'] as const
export type LatencyType = (typeof latencyTypes)[number]

/** One queue's counters, since its descriptor was opened. */
export interface QueueStats {
  queue: number
  running: boolean
  inflight: number
  held: number
  reads: number
  writes: number
  flushes: number
  /** GET_ID, discards, write-zeroes and what the device doesn't support. */
  others: number
  /** Those of the above that failed. */
  errors: number
  readBytes: number
  writeBytes: number
}

/** How long requests took. Bucket i counts those from bucketFromNs(i) to below bucketFromNs(i + 1). */
export interface Histogram {
  sumNs: number
  counts: number[]
}

/** VHOST_BLK_GET_STATS of one queue. @throws an Error with code, errno and syscall; EINVAL for a queue that isn't there */
export function readQueueStats(fd: number, queue: number): QueueStats {
  const buffer = Buffer.alloc(STATS_SIZE)
  buffer.writeUInt32LE(queue, 0)
  ioctl(fd, VHOST_BLK_GET_STATS, buffer)
  const count = (offset: number) => Number(buffer.readBigUInt64LE(offset))
  return {
    queue,
    running: buffer.readUInt32LE(4) === 1,
    inflight: count(8),
    reads: count(16),
    writes: count(24),
    flushes: count(32),
    others: count(40),
    errors: count(48),
    readBytes: count(56),
    writeBytes: count(64),
    held: count(80),
  }
}

/** VHOST_BLK_GET_LATENCY of one queue and kind of request. @throws an Error with code, errno and syscall */
export function readLatency(fd: number, queue: number, type: LatencyType): Histogram {
  const buffer = Buffer.alloc(LATENCY_SIZE)
  buffer.writeUInt32LE(queue, 0)
  buffer.writeUInt32LE(latencyTypes.indexOf(type), 4)
  ioctl(fd, VHOST_BLK_GET_LATENCY, buffer)
  const counts = Array.from({ length: LATENCY_BUCKETS }, (_, index) => Number(buffer.readBigUInt64LE(16 + 8 * index)))
  return { sumNs: Number(buffer.readBigUInt64LE(8)), counts }
}

/** Where a bucket begins, in ns; Infinity beyond the last one. */
export function bucketFromNs(index: number): number {
  if (index === 0) return 0
  if (index >= LATENCY_BUCKETS) return Number.POSITIVE_INFINITY
  const power = Math.floor((index - 1) / 4)
  return (4 + ((index - 1) % 4)) * 2 ** (8 + power)
}
