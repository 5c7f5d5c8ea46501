// SPDX-License-Identifier: GPL-2.0-or-later

import type { DiskInfo } from '../disk/info.ts'
import { Deadline } from './deadline.ts'
import { requireNoneThere } from './hosts/with-there-vm.ts'
import { requireNoOpenMigration } from './journal/journal.ts'
import type { MigrateOptions, Sides } from './options.ts'
import type { Plan } from './plan.ts'
import { preflight } from './preflight.ts'

/** What the checks before a migration have found good. */
export interface Preflight {
  vm: string
  destination: string
  /** Whether the VM runs, and would run at the destination. */
  running: boolean
  disks: {
    id: string | null
    datapath: DiskInfo['datapath']
    /** vblk makes it on the destination; else it is there. */
    made: boolean
    /** The destination's image, for a disk whose storage goes along. */
    copiedTo?: string
  }[]
}

/** Makes every check that comes before a migration, and changes nothing. Throws what they throw. */
export async function checkMigration(sides: Sides, options: Omit<MigrateOptions, 'dryRun'>): Promise<Preflight> {
  const plan = await check(sides, { ...options, dryRun: true }, new Deadline(options.timeoutMs, options.signal))
  return preflightOf(sides, plan)
}

export function preflightOf({ source, destination }: Sides, { wasRunning, disks }: Plan): Preflight {
  return {
    vm: source.name,
    destination: destination.name,
    running: wasRunning,
    disks: disks.map(({ source: { id, datapath }, preparation, copy }) => ({
      id,
      datapath,
      made: preparation !== undefined,
      ...(copy !== undefined && { copiedTo: copy.file }),
    })),
  }
}

/** Plans a migration. `own` is the id of the one open migration that may be these QEMUs'. */
export async function check(sides: Sides, options: MigrateOptions, deadline: Deadline, own?: string): Promise<Plan> {
  return await options.report
    .step('checking source and destination', async () => {
      await requireNoOpenMigration(options.journal, sides, own)
      await requireNoneThere(sides, own)
      return await preflight(sides, { ...options, signal: deadline.signal })
    })
    .catch((error) => {
      throw deadline.explain(error)
    })
}
