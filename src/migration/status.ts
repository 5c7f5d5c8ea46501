// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import { type MigrationInfo, type MigrationStatus, QmpTimeoutError } from '../qmp/index.ts'
import type { Vm } from '../vm/vm.ts'
import { isUnderWay } from './runstates.ts'

// Events wake us at once; the figures between them are for the person who waits.
const pollMs = 250

export interface StatusOptions {
  signal: AbortSignal
  /** Sees every answer of query-migrate. */
  watch?: (info: MigrationInfo) => void
}

/**
 * Waits until a side's migration has the status. Throws VblkError when it has ended otherwise, with QEMU's words, and
 * what QmpClient.execute throws.
 */
export async function awaitStatus(vm: Vm, wanted: MigrationStatus, options: StatusOptions): Promise<MigrationInfo> {
  const info = await awaitInfo(vm, (each) => each.status === wanted || !isUnderWay(each), options)
  if (info.status === wanted) return info
  throw migrationFailed(vm, info, wanted)
}

/** A migration has come to another status than it should; in QEMU's words where it has some. */
export function migrationFailed(vm: Vm, info: MigrationInfo, wanted: MigrationStatus): VblkError {
  const why = info['error-desc'] ?? `QEMU says ${info.status ?? 'nothing'} instead of ${wanted}`
  return new VblkError('MIGRATION_FAILED', ExitCode.Refused, `${vm.name}: the migration failed: ${why}`)
}

/** Waits until a side's migration is over, however it ended. */
export async function awaitEnd(vm: Vm, options: StatusOptions): Promise<MigrationInfo> {
  return await awaitInfo(vm, (info) => !isUnderWay(info), options)
}

/** Waits until what query-migrate says of a side is as wanted. Throws what QmpClient.execute throws. */
export async function awaitInfo(
  vm: Vm,
  isWanted: (info: MigrationInfo) => boolean,
  { signal, watch }: StatusOptions,
): Promise<MigrationInfo> {
  const events = vm.qmp.events(({ event }) => event === 'MIGRATION')
  try {
    while (true) {
      const info = await vm.qmp.execute('query-migrate', {}, { signal })
      watch?.(info)
      if (isWanted(info)) return info
      await events.next({ timeoutMs: pollMs, signal }).catch((error) => {
        if (!(error instanceof QmpTimeoutError)) throw error
      })
    }
  } finally {
    events.close()
  }
}
