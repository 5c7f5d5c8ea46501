// SPDX-License-Identifier: GPL-2.0-or-later

import type { DiskInfo } from '../../../src/disk/info.ts'
import type { BlockDeviceInfo } from '../../../src/qmp/index.ts'

/** A disk as vblk attaches it, but for what a test says. */
export const diskInfo = (changes: Partial<DiskInfo> = {}): DiskInfo => ({
  id: 'd1',
  path: '/machine/peripheral/d1',
  type: 'vhost-blk-pci',
  node: 'vblk-d1',
  file: '/disk.raw',
  sizeBytes: 1024,
  readOnly: false,
  cache: 'none',
  writeCacheSetting: 'auto',
  writeCache: { original: 'writeback', current: 'writeback' },
  serial: 'S1',
  blockSize: { logical: 512, physical: 512 },
  discard: 'unmap',
  limits: { bytesPerSecond: null, requestsPerSecond: null },
  queues: 2,
  iothread: null,
  bus: 'rp1',
  addr: '00.0',
  datapathSetting: 'auto',
  datapath: 'kernel',
  reason: '',
  kernel: { fds: [9], runningQueues: 2, requests: 7, errors: 0 },
  ...changes,
})

const noLimits = { bps: 0, bps_rd: 0, bps_wr: 0, iops: 0, iops_rd: 0, iops_wr: 0 }

const node = (name: string, drv: string, bytes: number, filename: string): BlockDeviceInfo => ({
  file: filename,
  'node-name': name,
  ro: false,
  drv,
  active: true,
  encrypted: false,
  detect_zeroes: 'off',
  backing_file_depth: 0,
  write_threshold: 0,
  ...noLimits,
  cache: { writeback: true, direct: true, 'no-flush': false },
  image: { filename, format: drv, 'virtual-size': bytes },
})

/** The nodes below that disk. */
export const diskNodes = ({ drv = 'file', bytes = 1024, filename = '/disk.raw' } = {}): BlockDeviceInfo[] => [
  node('vblk-d1', 'raw', 1024, '/disk.raw'),
  node('vblk-d1-file', drv, bytes, filename),
]
