// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import type { MigrationInfo, MigrationStatus, RunState } from '../qmp/index.ts'

const over: ReadonlySet<MigrationStatus> = new Set(['none', 'cancelled', 'failed', 'completed'])

/** Whether a migration with this status goes on by itself. */
export function isUnderWay({ status }: MigrationInfo): boolean {
  return status !== undefined && !over.has(status)
}

/** Throws VblkError unless a VM in this state can be migrated: exit code 5, or 9 while a migration is under way. */
export function checkSourceState(name: string, state: RunState, migration: MigrationInfo): void {
  if (isUnderWay(migration)) {
    throw new VblkError('MIGRATION_ACTIVE', ExitCode.Busy, `${name}: a migration is under way (${migration.status})`, {
      hint: 'wait for its end',
    })
  }
  if (state !== 'running' && state !== 'paused') {
    const why = sourceStates[state] ?? 'only a running or paused VM can be migrated'
    throw new VblkError('SOURCE_NOT_MIGRATABLE', ExitCode.Refused, `${name}: the VM is in state ${state}: ${why}`)
  }
  const reasons = migration['blocked-reasons'] ?? []
  if (reasons.length > 0) {
    throw new VblkError('MIGRATION_BLOCKED', ExitCode.Refused, `${name}: QEMU can't migrate it: ${reasons.join('; ')}`)
  }
}

const sourceStates: Partial<Record<RunState, string>> = {
  postmigrate: 'it was migrated already, and may run elsewhere',
  inmigrate: 'it waits for a migration itself; are source and destination swapped?',
  prelaunch: 'it has not been started yet',
  shutdown: 'the guest has shut down',
}

/** Throws VblkError (exit code 5) unless a QEMU in this state waits to be told from where to take a VM. */
export function checkDestinationState(name: string, state: RunState, migration: MigrationInfo): void {
  if (state !== 'inmigrate') {
    throw new VblkError(
      'DESTINATION_NOT_INCOMING',
      ExitCode.Refused,
      `${name}: the destination does not wait for a migration: ${destinationStates[state] ?? `its VM is in state ${state}`}`,
      { hint: 'start it with the same arguments as the source and -incoming defer' },
    )
  }
  if (migration.status !== undefined && migration.status !== 'none') {
    throw new VblkError(
      'DESTINATION_IN_USE',
      ExitCode.Refused,
      `${name}: the destination already listens for a migration or takes one (${migration.status})`,
      { hint: 'start it anew with -incoming defer' },
    )
  }
}

const destinationStates: Partial<Record<RunState, string>> = {
  running: 'a VM runs in it',
  paused: 'a stopped VM is in it',
  prelaunch: 'a VM that was never started is in it (-S without -incoming)',
  postmigrate: 'its VM was migrated away',
  shutdown: 'the guest in it has shut down',
}
