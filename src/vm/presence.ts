// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import type { MigrationStatus, WaitOptions } from '../qmp/index.ts'
import type { Vm } from './vm.ts'

const underWay: ReadonlySet<MigrationStatus> = new Set<MigrationStatus>([
  'setup',
  'wait-unplug',
  'active',
  'pre-switchover',
  'device',
  'postcopy-active',
  'postcopy-paused',
  'postcopy-recover-setup',
  'postcopy-recover',
  'cancelling',
  'colo',
])

/**
 * Throws VblkError unless this QEMU owns its VM: exit code 5 when the VM hasn't come yet or has gone, 9 while it moves.
 * What is plugged in or out meanwhile would be missing on the other side.
 */
export async function requireHere(vm: Vm, options: WaitOptions = {}): Promise<void> {
  const [{ status }, migration] = await Promise.all([
    vm.qmp.execute('query-status', {}, options),
    vm.qmp.execute('query-migrate', {}, options),
  ])
  if (status === 'inmigrate') throw elsewhere(vm, 'waits for a VM that migrates to it')
  if (status === 'postmigrate') throw elsewhere(vm, 'has given its VM away by migration')
  if (migration.status !== undefined && underWay.has(migration.status)) throw migrating(vm)
}

/** The refusal while a migration is under way; exit code 9. */
export function migrating(vm: Vm, cause?: unknown): VblkError {
  return new VblkError('VM_MIGRATING', ExitCode.Busy, `${vm.name}: this VM is migrating`, {
    hint: 'ask again when the migration is over',
    ...(cause === undefined ? {} : { cause }),
  })
}

/** Whether QEMU refused a hot-plug because of a migration that began in between. */
export const saysMigrating = (desc: string) => /not allowed while migrating/.test(desc)

function elsewhere(vm: Vm, what: string): VblkError {
  return new VblkError('VM_NOT_HERE', ExitCode.Refused, `${vm.name}: this QEMU ${what}`, {
    hint: 'name the QEMU in which the VM runs',
  })
}
