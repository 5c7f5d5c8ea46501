// SPDX-License-Identifier: GPL-2.0-or-later

import { vhostBlkPci } from '../vm/vm.ts'
import type { DiskInfo } from './info.ts'
import { isSameSource } from './source.ts'
import type { DiskSpec } from './spec.ts'

/**
 * In what an attached disk differs from what was asked, one text for each; none when it is the same disk. Queues, bus
 * and address count only if they were asked for, since QEMU chooses them otherwise.
 */
export async function differences(disk: DiskInfo, spec: DiskSpec): Promise<string[]> {
  const found: string[] = []
  const compare = (name: string, has: unknown, asked: unknown) => {
    if (has !== asked) found.push(`${name} is ${show(has)}, not ${show(asked)}`)
  }
  compare('device', disk.type, vhostBlkPci)
  const sameFile = disk.file !== null && (await isSameSource(disk.file, spec.source.file))
  if (!sameFile) compare('file', disk.file, spec.source.file)
  compare('read-only', disk.readOnly, spec.readOnly)
  compare('cache', disk.cache, spec.cache)
  compare('write cache', disk.writeCacheSetting, spec.writeCache)
  compare('serial', disk.serial, spec.serial ?? '')
  compare('datapath', disk.datapathSetting, spec.datapath)
  compare('discard', disk.discard, spec.readOnly ? disk.discard : spec.discard)
  compare('limit of bytes per second', disk.limits.bytesPerSecond, spec.bandwidth ?? null)
  compare('limit of requests per second', disk.limits.requestsPerSecond, spec.iops ?? null)
  compare('iothread', disk.iothread, spec.iothread ?? null)
  if (spec.logicalBlockSize !== undefined) compare('logical block size', disk.blockSize.logical, spec.logicalBlockSize)
  if (spec.physicalBlockSize !== undefined)
    compare('physical block size', disk.blockSize.physical, spec.physicalBlockSize)
  if (spec.queues !== undefined) compare('queues', disk.queues, spec.queues)
  if (spec.bus !== undefined) compare('bus', disk.bus, spec.bus)
  if (spec.addr !== undefined) compare('address', disk.addr, normalizeAddr(spec.addr))
  return found
}

function show(value: unknown): string {
  if (value === '' || value === null) return 'none'
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  return String(value)
}

/** As QEMU's property legacy-addr shows it: '3' is '03.0'. */
function normalizeAddr(addr: string): string {
  const [slot = '', fn = '0'] = addr.toLowerCase().split('.')
  return `${slot.padStart(2, '0')}.${fn}`
}
