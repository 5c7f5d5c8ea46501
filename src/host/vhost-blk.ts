// SPDX-License-Identifier: GPL-2.0-or-later
import { constants } from 'node:fs'
import { closeFd, ioctl, openFd } from './fd.ts'

/** Figures of kmod/uapi/vhost_blk.h; a unit test compares them with what the compiler makes of it. */
export const DEVICE_PATH = '/dev/vhost-blk'
export const ABI_VERSION = 2
export const VHOST_BLK_GET_INFO = 0x8038af51
const INFO_SIZE = 56

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
    const info = Buffer.alloc(INFO_SIZE)
    ioctl(fd, VHOST_BLK_GET_INFO, info)
    return { abiVersion: info.readUInt32LE(0), maxQueues: info.readUInt32LE(4) }
  } finally {
    closeFd(fd)
  }
}
