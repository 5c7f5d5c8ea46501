// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import { type Found, vmOf, withSides } from './find-sides.ts'
import { isThisHost } from './hosts/machine.ts'
import { type HostsOptions, isOfTwo, withHosts } from './hosts/with-hosts.ts'
import { requireRecord } from './journal/choose.ts'
import { partyName } from './journal/party-name.ts'
import type { MigrationRecord } from './journal/record.ts'
import type { JournalStore } from './journal/store.ts'
import type { Side, Sides } from './options.ts'

/** A migration that another vblk has begun. */
export interface FoundMigration {
  /** As it is now: another command may have come first, and the locks are ours only since. */
  record: MigrationRecord
  /** On both hosts, if both QEMUs are not on one. */
  journal: JournalStore
  found: Record<Side, Found>
}

/** Finds a migration's QEMUs, locks them, and lets go of them afterwards. Throws what withSides and withHosts throw. */
export async function withMigration<T>(
  chosen: MigrationRecord,
  options: HostsOptions,
  use: (migration: FoundMigration) => Promise<T>,
): Promise<T> {
  if (isOfTwo(chosen)) return await withHosts(chosen, options, use)
  const { journal, fenced } = options
  return await withSides(chosen, fenced.map(partyName), options, async (found) =>
    use({ record: await requireRecord(journal, chosen.id), journal, found }),
  )
}

/**
 * Both QEMUs, for a command that can't do without them; `mayBeGone` is a side that may have ended. Throws VblkError (exit code 3)
 * for one that has ended or can't be reached.
 */
export function requireSides({ record, found }: FoundMigration, mayBeGone?: Side): Sides {
  for (const side of ['source', 'destination'] as const) {
    const there = found[side]
    if ((there === 'gone' && side === mayBeGone) || (there !== 'gone' && 'vm' in there)) continue
    const why = there === 'gone' ? `its QEMU has ended` : there.unreachable
    throw new VblkError('VM_NOT_THERE', ExitCode.NotFound, `the ${side} ${record[side].name}: ${why}`, {
      hint: `vblk migrate recover ${record.id}`,
    })
  }
  return {
    source: vmOf(found.source, record.source),
    destination: vmOf(found.destination, record.destination),
  }
}

/** Throws VblkError (exit code 5) on the destination's host, for what the vblk of the source's alone can do. */
export function requireSourceHost({ id, hosts }: MigrationRecord, command: 'run' | 'abort'): void {
  if (hosts === undefined || isThisHost(hosts.source)) return
  const { name } = hosts.source
  throw new VblkError('NOT_SOURCE_HOST', ExitCode.Refused, `migration ${id} is moved by vblk on ${name}`, {
    hint: `on ${name}: vblk migrate ${command} ${id}`,
  })
}
