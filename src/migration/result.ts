// SPDX-License-Identifier: GPL-2.0-or-later

import type { Datapath, WriteCache } from '../disk/info.ts'
import type { RunState } from '../qmp/index.ts'
import type { DowntimePhases } from './downtime.ts'
import type { Finish } from './finish.ts'
import type { Moved } from './move.ts'
import type { Sides } from './options.ts'
import type { ReadyPlan } from './plan.ts'
import type { CopiedStorage } from './storage/copy-storage.ts'

export interface MigratedDisk {
  id: string | null
  datapath: { before: Datapath; after: Datapath | null }
  /** Original: what a reset restores. Null where a device can't tell. */
  writeCache: { original: WriteCache | null; before: WriteCache | null; after: WriteCache | null }
  /** Completed by the kernel: on the source in all, and on the destination so far. */
  kernelRequests: { before: number | null; after: number | null }
  /** Why the kernel doesn't serve it on the destination. */
  reason?: string
  /** Where its storage has gone; absent for a disk that both sides share. */
  copied?: CopiedStorage & { from: string | null }
}

export interface MigratedVm {
  vm: string
  destination: string
  status: RunState
  /** From the source's STOP event to the destination's RESUME event; null for a VM that stood still anyway. */
  downtimeMs: number | null
  /** Its parts, in milliseconds; null if a QEMU did not tell enough. */
  downtimePhases: DowntimePhases | null
  totalMs: number
  /** Memory that was sent. */
  ramBytes: number
  /** QEMU and, where it can be asked, the kernel said so before device state was saved; else the migration is rolled back. */
  backendStoppedBeforeSave: true
  disks: MigratedDisk[]
  /** The VM ran at the destination before all of its memory was there. */
  postcopy: boolean
  /** What became of the source's QEMU. */
  source: Finish['source']
}

export function migratedVm(
  { source, destination }: Sides,
  plan: ReadyPlan,
  { migration, disks: saved, status, downtime, inPostcopy }: Moved,
  finish: Finish,
  copies: readonly (CopiedStorage | undefined)[] = [],
): MigratedVm {
  return {
    vm: source.name,
    destination: destination.name,
    status,
    downtimeMs: downtime?.totalMs ?? null,
    downtimePhases: downtime?.phases ?? null,
    totalMs: Number(migration['total-time'] ?? 0),
    ramBytes: Number(migration.ram?.transferred ?? 0),
    backendStoppedBeforeSave: true,
    disks: plan.disks.map(({ source: before }, index) => {
      const after = finish.disks[index]
      const stopped = saved[index]
      const copied = copies[index]
      return {
        id: before.id,
        datapath: { before: before.datapath, after: after?.datapath ?? null },
        writeCache: {
          original: stopped?.writeCache.original ?? null,
          before: stopped?.writeCache.current ?? null,
          after: after?.writeCache.current ?? null,
        },
        kernelRequests: { before: stopped?.state?.requests ?? null, after: after?.kernel?.requests ?? null },
        ...(after !== undefined && after.reason !== '' && { reason: after.reason }),
        ...(copied !== undefined && { copied: { ...copied, from: before.file } }),
      }
    }),
    postcopy: inPostcopy,
    source: finish.source,
  }
}
