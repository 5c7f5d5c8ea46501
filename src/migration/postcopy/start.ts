// SPDX-License-Identifier: GPL-2.0-or-later

import type { MigrationInfo } from '../../qmp/index.ts'
import type { Vm } from '../../vm/vm.ts'
import { send } from '../commands.ts'
import type { Sides } from '../options.ts'
import { type Plan, startPostcopyCommand } from '../plan.ts'
import { isUnderWay } from '../runstates.ts'
import { awaitInfo, awaitStatus, migrationFailed, type StatusOptions } from '../status.ts'

/**
 * Waits for the source's pre-switchover, and asks for postcopy on the way when it is due. Returns whether it did: memory that
 * fits into the downtime before that needs none. Throws what awaitStatus throws.
 */
export async function awaitSwitchover(
  sides: Sides,
  { postcopy }: Pick<Plan, 'postcopy'>,
  options: StatusOptions,
): Promise<boolean> {
  const { source } = sides
  if (postcopy !== undefined && (await isDue(source, postcopy, options))) {
    await send(sides, startPostcopyCommand, options)
    await awaitStatus(source, 'pre-switchover', options)
    return true
  }
  await awaitStatus(source, 'pre-switchover', options)
  return false
}

/** False if pre-switchover came first. */
async function isDue(source: Vm, { afterMs }: NonNullable<Plan['postcopy']>, options: StatusOptions): Promise<boolean> {
  const since = performance.now()
  const isReady = (info: MigrationInfo) =>
    info.status === 'active' && (afterMs === undefined ? hasSentAll(info) : performance.now() - since >= afterMs)
  const info = await awaitInfo(
    source,
    (each) => each.status === 'pre-switchover' || !isUnderWay(each) || isReady(each),
    options,
  )
  if (!isUnderWay(info)) throw migrationFailed(source, info, 'pre-switchover')
  return info.status !== 'pre-switchover'
}

/** Every pass over memory but the first begins with what was changed meanwhile. */
const hasSentAll = ({ ram }: MigrationInfo): boolean => Number(ram?.['dirty-sync-count'] ?? 0) > 1
