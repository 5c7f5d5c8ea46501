// SPDX-License-Identifier: GPL-2.0-or-later

import { type DiskInfo, isDisk } from '../disk/info.ts'
import { ExitCode, VblkError } from '../errors.ts'
import type { BlockDeviceInfo, MigrationInfo, WaitOptions } from '../qmp/index.ts'
import { listChildren, peripheral, peripheralAnon } from '../vm/qom.ts'
import type { Vm } from '../vm/vm.ts'
import { send } from './commands.ts'
import type { Journal } from './journal/journal.ts'
import type { Report, Sides } from './options.ts'
import { continueCommand, type ReadyPlan } from './plan.ts'
import { readStandstill, requireStopped, type StoppedDisk, whyRunning } from './standstill.ts'
import { awaitStatus } from './status.ts'
import { writeCacheFault } from './write-cache.ts'

/** What the switchover found on the source. */
export interface Switchover {
  migration: MigrationInfo
  /** The source's disks as their state was saved. */
  disks: StoppedDisk[]
}

/**
 * From pre-switchover, where the source stands still and its state isn't saved yet, to a verified and still stopped
 * destination. Throws VblkError for whatever isn't as it must be: then the source can still go on.
 */
export async function switchOver(
  sides: Sides,
  plan: ReadyPlan,
  report: Report,
  journal: Journal,
  signal: AbortSignal,
): Promise<Switchover> {
  const { source, destination } = sides
  const wait = { signal }
  const disks = await requireStandstill(source, plan, report, journal, wait)
  await send(sides, continueCommand, wait)
  const migration = await awaitStatus(source, 'completed', wait)
  await awaitStatus(destination, 'completed', wait)
  await verifyDestination(destination, plan, disks, wait)
  return { migration, disks }
}

/**
 * Enters `switchover`, and returns the source's disks as their state will be saved. Throws VblkError unless every backend has
 * stopped and all disks are there and tell it.
 */
export async function requireStandstill(
  source: Vm,
  plan: ReadyPlan,
  report: Report,
  journal: Journal,
  wait: WaitOptions,
): Promise<StoppedDisk[]> {
  const places = plan.disks.map(({ name, source: { path } }) => ({ name, path }))
  const [disks] = await Promise.all([
    readStandstill(source, places, wait),
    requireSameDisks(source, plan, wait),
    // The disk's and QEMU's time are spent together.
    journal.enter('switchover'),
  ])
  for (const [index, { name, source: known }] of plan.disks.entries()) requireTold(name, known, disks[index])
  requireStopped(disks, report)
  return disks
}

/** A device that could tell its state before must tell it now: no answer is no good news. */
function requireTold(name: string, known: Pick<DiskInfo, 'kernel' | 'writeCache'>, now: StoppedDisk | undefined): void {
  const silent =
    now === undefined ||
    (known.kernel !== null && now.state === undefined) ||
    (known.writeCache.current !== null && now.writeCache.current === null)
  if (!silent) return
  throw new VblkError('DISK_SILENT', ExitCode.Refused, `${name} does not tell its backend and write cache any more`)
}

/** Other monitors can plug and unplug while the memory is on its way. */
async function requireSameDisks(source: Vm, { disks }: ReadyPlan, wait: WaitOptions): Promise<void> {
  const devices = await Promise.all([peripheral, peripheralAnon].map((path) => listChildren(source, path, wait)))
  const now = devices
    .flat()
    .filter(isDisk)
    .map(({ path }) => path)
  const then = disks.map(({ source: { path } }) => path)
  const changed = [...now, ...then].find((path) => now.includes(path) !== then.includes(path))
  if (changed === undefined) return
  throw new VblkError('DISKS_CHANGED', ExitCode.Refused, `${changed} came or went during the migration`)
}

/**
 * The last look before the point of no return: the destination has all of the VM, stands still, has not taken the images,
 * and each disk's write cache is what it was on the source.
 */
async function verifyDestination(
  destination: Vm,
  plan: ReadyPlan,
  saved: StoppedDisk[],
  wait: WaitOptions,
): Promise<void> {
  const places = plan.disks.map(({ name, destination: { path } }) => ({ name, path }))
  const [status, nodes, loaded] = await Promise.all([
    destination.qmp.execute('query-status', {}, wait),
    destination.qmp.execute('query-named-block-nodes', { flat: true }, wait),
    readStandstill(destination, places, wait),
  ])
  if (status.status !== 'paused') throw mismatch(`its VM is in state ${status.status}, not paused`)
  const files = new Set(plan.disks.map(({ source: { file } }) => file))
  // A file that was passed as a descriptor has no such name.
  const names = new Set(plan.disks.map(({ destination: { node } }) => node))
  const isOurs = ({ file, 'node-name': name }: BlockDeviceInfo) =>
    files.has(file) || (name !== undefined && names.has(name))
  const taken = nodes.find((node) => node.active === true && !node.ro && isOurs(node))
  if (taken !== undefined) throw mismatch(`it has already taken ${taken.file}`)
  for (const [index, { name, destination: planned }] of plan.disks.entries()) {
    const [before, after] = [saved[index], loaded[index]]
    if (before === undefined || after === undefined) throw mismatch(`${name} was not read`)
    requireTold(name, planned, after)
    const running = whyRunning(after.state, after.kernel)
    if (running !== undefined) throw mismatch(`${name}: its backend already runs: ${running}`)
    const fault = writeCacheFault(before.writeCache, after.writeCache, planned.writeCacheSetting)
    if (fault !== undefined) throw mismatch(`${name}: ${fault}`)
  }
}

export function mismatch(what: string): VblkError {
  return new VblkError('DESTINATION_MISMATCH', ExitCode.Refused, `the destination is not as it must be: ${what}`)
}
