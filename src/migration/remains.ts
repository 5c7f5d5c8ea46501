// SPDX-License-Identifier: GPL-2.0-or-later

import type { MigrationRecord } from './journal/record.ts'
import type { Remains } from './plan.ts'

/** What the record says of the plan. */
export function remainsOf({ wasRunning, keepSource, disks, restore }: MigrationRecord): Remains {
  return {
    wasRunning,
    keepSource,
    settings: { restore: restore as Remains['settings']['restore'] },
    disks: disks.map(({ name, id, bus, addr, datapath, sourcePath, destinationPath, made, copy }) => ({
      name,
      source: { id, bus, addr, datapath, path: sourcePath },
      destination: { path: destinationPath },
      preparation: made && id !== null ? { id } : undefined,
      copy,
    })),
  }
}
