// SPDX-License-Identifier: GPL-2.0-or-later

import { QmpClient } from '../qmp/index.ts'
import { lockVm } from '../vm/lock.ts'
import { type LockVmOptions, openVm, type Vm } from '../vm/vm.ts'
import { hasEnded, identifyVm, isSameProcess } from './journal/process-identity.ts'
import type { MigrationRecord, Party } from './journal/record.ts'
import type { Side } from './options.ts'

/** A side of a migration, as it is found: there, certainly ended, or nobody can tell. */
export type Found = { vm: Vm } | 'gone' | { unreachable: string }

export interface FindOptions extends LockVmOptions {
  /** Instead of openVm. */
  openVm?: typeof openVm
}

/**
 * Looks for both QEMUs of a record, locks those that are there, and lets go of them afterwards. A side counts as gone if its
 * process has certainly ended, or if it can't be reached and the user vouches for its end (`fenced`, its name). Throws VblkError (exit code 9) while
 * another vblk works on one of them.
 */
export async function withSides<T>(
  record: MigrationRecord,
  fenced: readonly string[],
  options: FindOptions,
  use: (found: Record<Side, Found>) => Promise<T>,
): Promise<T> {
  const close: (() => Promise<void> | void)[] = []
  const find = async (party: Party): Promise<Found> => {
    const there = await findHere(party, options, close)
    const isVouchedFor = typeof there === 'object' && 'unreachable' in there && fenced.includes(party.name)
    return isVouchedFor ? 'gone' : there
  }
  try {
    const source = await find(record.source)
    return await use({ source, destination: await find(record.destination) })
  } finally {
    for (const each of close.reverse()) await each()
  }
}

/** Looks for a QEMU of this host, and locks it; `close` gets what lets go of it. */
export async function findHere(
  party: Party,
  options: FindOptions,
  close: (() => Promise<void> | void)[],
): Promise<Found> {
  if (party.process !== null && hasEnded(party.process)) return 'gone'
  const opened = await open(party, options)
  if (typeof opened === 'string') return { unreachable: opened }
  close.push(() => opened.qmp.close())
  close.push(lockVm(opened, options.warn))
  return { vm: opened }
}

/** The QEMU that the record is of, or why it can't be reached. */
async function open(party: Party, options: FindOptions): Promise<Vm | string> {
  let vm: Vm
  try {
    vm = await (options.openVm ?? openVm)(party.name, options)
  } catch (error) {
    return (error as Error).message
  }
  if (party.process === null || isSameProcess(identifyVm(vm), party.process)) return vm
  await vm.qmp.close()
  return `another process serves ${party.name} now`
}

/** A VM that is gone looks like one whose monitor has closed. */
export function vmOf(found: Found, { name }: Party): Vm {
  return typeof found === 'object' && 'vm' in found ? found.vm : { name, qmp: new QmpClient({ path: name }) }
}
