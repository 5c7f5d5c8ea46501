// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import { QmpCommandError } from '../qmp/index.ts'
import { requireHere } from '../vm/presence.ts'
import { type Vm, vhostBlkPci } from '../vm/vm.ts'
import { type DiskInfo, requireDisk, type WriteCache } from './info.ts'
import type { PlannedCommand } from './plan.ts'
import type { OperationOptions } from './report.ts'

export interface WriteCacheResult {
  id: string
  /** False when it was so already, or nothing was asked. */
  changed: boolean
  /** What a reset restores; null when this device can't tell. */
  original: WriteCache | null
  /** What the guest has now; null when this device can't tell. */
  current: WriteCache | null
  /** Whether the next reset of the guest changes what it has. */
  pending: boolean
  /** What was sent, or would be. */
  commands: PlannedCommand[]
  dryRun: boolean
}

/** How a disk's write cache stands. */
export function writeCacheOf(disk: DiskInfo, id: string, dryRun: boolean): WriteCacheResult {
  const { original, current } = disk.writeCache
  return { id, changed: false, original, current, pending: original !== current, commands: [], dryRun }
}

/**
 * Sets the write cache of a disk of a running VM: writethrough at once and for every reset to come, writeback from the next
 * reset on, since a guest that relies on writethrough doesn't flush. Throws VblkError: exit code 3 for no such disk, 4 when
 * this QEMU's device is too old, 5 when the disk can't, 9 while the VM migrates.
 */
export async function setWriteCache(
  vm: Vm,
  id: string,
  target: WriteCache,
  options: OperationOptions,
): Promise<WriteCacheResult> {
  const { signal, dryRun, report } = options
  const disk = await requireDisk(vm, id, { signal })
  if (disk.type !== vhostBlkPci) {
    throw new VblkError(
      'WRITE_CACHE_FIXED',
      ExitCode.Refused,
      `the write cache of a ${disk.type} can't be set at run time`,
      {
        hint: `attach ${id} with vblk, or let its guest set /sys/block/…/cache_type`,
      },
    )
  }
  const before = writeCacheOf(disk, id, dryRun)
  const commands = settings(disk, target).map((set) => ({ execute: 'qom-set', arguments: set }))
  if (commands.length === 0) return before
  await requireHere(vm, { signal })
  if (dryRun) return { ...before, commands }
  signal.throwIfAborted()
  await report.step(`setting the write cache of ${id} to ${target}`, async () => {
    for (const { arguments: set } of commands) {
      await vm.qmp.execute('qom-set', set, { timeoutMs: options.timeoutMs }).catch((error: Error) => {
        throw explainFailure(error, id)
      })
    }
  })
  const after = writeCacheOf(await requireDisk(vm, id, { signal }), id, dryRun)
  if (after.original !== target || (target === 'writethrough' && after.current !== target)) {
    throw new VblkError(
      'WRITE_CACHE_NOT_SET',
      ExitCode.Refused,
      `${id} did not take the write cache ${target}: it is ${after.current}, and ${after.original} after a reset`,
    )
  }
  return { ...after, changed: true, commands }
}

/** What is to be set, the guest's present cache first: a failure in between leaves a disk that is safe. */
function settings({ path, writeCache }: DiskInfo, target: WriteCache) {
  const value = target === 'writeback'
  const sets: { path: string; property: string; value: boolean }[] = []
  if (!value && writeCache.current !== target) sets.push({ path, property: 'current-write-cache', value })
  if (writeCache.original !== target) sets.push({ path, property: 'original-write-cache', value })
  return sets
}

function explainFailure(error: Error, id: string): Error {
  if (!(error instanceof QmpCommandError)) return error
  // A property without a setter (object_property_set in QEMU's qom/object.c).
  if (/Insufficient permission/.test(error.desc)) {
    return new VblkError(
      'DEVICE_TOO_OLD',
      ExitCode.HostLacks,
      `the vhost-blk device in the QEMU of ${id} is of an older vblk, which can't set the write cache`,
      { hint: 'build the device with "vblk device build", and restart or migrate the VM', cause: error },
    )
  }
  return new VblkError(
    'REFUSED_BY_QEMU',
    ExitCode.Refused,
    `QEMU refuses to set the write cache of ${id}: ${error.desc}`,
    {
      cause: error,
    },
  )
}
