// SPDX-License-Identifier: GPL-2.0-or-later

import type { Found } from '../find-sides.ts'
import type { MigrationRecord } from '../journal/record.ts'
import type { Side } from '../options.ts'

const answerMs = 10_000

/**
 * Ends the destination's QEMU of a migration that was rolled back while that host was out of reach. One that has a VM,
 * which may have come by another migration since, is left alone.
 */
export async function endLeftDestination(
  { phase }: MigrationRecord,
  { destination }: Record<Side, Found>,
  warn: (message: string) => void,
): Promise<void> {
  if (phase !== 'rolled-back' || typeof destination !== 'object' || !('vm' in destination)) return
  const { name, qmp } = destination.vm
  const { status } = await qmp.execute('query-status', {}, { timeoutMs: answerMs })
  const stream = await qmp.execute('query-migrate', {}, { timeoutMs: answerMs })
  // One that has never listened can still take a VM.
  if (stream.status === undefined || stream.status === 'none') return
  if (status === 'inmigrate') await qmp.execute('quit', {}, { timeoutMs: answerMs })
  else warn(`${name}: the migration was rolled back, and its QEMU has a VM (${status}): if it is this one, end it`)
}
