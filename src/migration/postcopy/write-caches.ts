// SPDX-License-Identifier: GPL-2.0-or-later

import type { DiskInfo } from '../../disk/info.ts'
import { readProperty } from '../../vm/qom.ts'
import type { Vm } from '../../vm/vm.ts'
import type { Report } from '../options.ts'
import { readStandstill } from '../standstill.ts'
import { writeCacheFault } from '../write-cache.ts'

/** A disk at its place on the destination, with the write cache that it must show. */
interface Wanted extends Pick<DiskInfo, 'writeCache'> {
  name: string
  path: string
}

const answerMs = 10_000

/**
 * Compares the write caches of a destination that has the VM with what the source saved, before the VM runs. There is no way back
 * any more: what differs is told, and a cache that the guest believes to be off is turned off.
 */
export async function matchWriteCaches(
  destination: Vm,
  disks: readonly Wanted[],
  report: Pick<Report, 'warn'>,
): Promise<void> {
  const loaded = await readStandstill(destination, disks, { timeoutMs: answerMs })
  for (const [index, { name, path, writeCache }] of disks.entries()) {
    const there = loaded[index]?.writeCache ?? { original: null, current: null }
    const setting = there.current === null ? await readSetting(destination, path) : 'auto'
    const fault = writeCacheFault(writeCache, there, setting)
    if (fault === undefined) continue
    const isUnsafe = writeCache.current === 'writethrough' && there.current !== 'writethrough'
    report.warn(`${name}: ${fault}${isUnsafe ? `; ${await turnOff(destination, path)}` : ''}`)
  }
}

/** What a device that can't tell its write cache begins with. */
async function readSetting(destination: Vm, path: string): Promise<DiskInfo['writeCacheSetting']> {
  const setting = await readProperty(destination, path, 'write-cache', { timeoutMs: answerMs })
  return setting === 'off' ? 'writethrough' : 'auto'
}

async function turnOff({ qmp }: Vm, path: string): Promise<string> {
  try {
    await qmp.execute('qom-set', { path, property: 'current-write-cache', value: false }, { timeoutMs: answerMs })
    return 'it was turned off'
  } catch (error) {
    return `it could not be turned off, and what the guest takes for written may be lost with the host's power: ${(error as Error).message}`
  }
}
