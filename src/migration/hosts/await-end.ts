// SPDX-License-Identifier: GPL-2.0-or-later

import { awaitProcessEnd } from '../journal/process-identity.ts'
import type { MigrationRecord } from '../journal/record.ts'
import type { Side, Sides } from '../options.ts'
import { hostOf } from './host-of.ts'
import { isThisHost } from './machine.ts'

/** Whether the process of a side ends, as far as its own host can tell. False for one that isn't known or can't be asked for. */
export async function awaitSideEnd(
  sides: Sides,
  { record }: { record: MigrationRecord },
  side: Side,
): Promise<boolean> {
  const { hosts } = record
  const { process } = record[side]
  if (hosts === undefined || isThisHost(hosts[side])) return await awaitProcessEnd(process)
  const there = hostOf(sides[side])
  if (there === undefined || process === null) return false
  return await there.host.ask('awaitEnd', { process }).catch(() => false)
}
