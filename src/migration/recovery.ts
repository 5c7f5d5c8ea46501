// SPDX-License-Identifier: GPL-2.0-or-later
// What every way of bringing a left migration to its end is made of.

import { rmdir, unlink } from 'node:fs/promises'
import path from 'node:path'
import type { VblkError } from '../errors.ts'
import type { StatusInfo } from '../qmp/index.ts'
import type { Vm } from '../vm/vm.ts'
import { isChannelDir } from './channel.ts'
import { isThisHost } from './hosts/machine.ts'
import type { Journal } from './journal/journal.ts'
import type { MigrationRecord } from './journal/record.ts'
import type { Report, Side, Sides } from './options.ts'
import { OutcomeUnknownError } from './outcome-unknown.ts'
import type { Remains } from './plan.ts'
import { rollBack } from './rollback.ts'

export interface Recovered {
  id: string
  /** The only side that may open the disks for writing. */
  owner: Side
  /** The owner's QMP socket. */
  ownerName: string
  /** Whether the VM runs at the owner, stands still there, or is lost. */
  vm: 'running' | 'stopped' | 'lost'
  /** What was done, in one line. */
  message: string
}

export interface Recovery {
  record: MigrationRecord
  journal: Journal
  report: Report
  plan: Remains
  sides: Sides
  isThere: Record<Side, boolean>
  destinationRan: boolean | undefined
  /** How long a way for memory in postcopy that was cut is made anew. */
  timeoutMs: number
  why: string
}

export const answerMs = 10_000

export async function backToSource(recovery: Recovery, cause: VblkError): Promise<Recovered> {
  const { journal, report, plan, sides, isThere } = recovery
  const outcome = await rollBack(cause, sides, plan, report, journal, !isThere.destination)
  if (outcome instanceof OutcomeUnknownError) throw outcome
  return await ended(recovery, 'source', plan.wasRunning ? 'running' : 'stopped', 'rolled back to the source')
}

export async function ended(recovery: Recovery, owner: Side, vm: Recovered['vm'], message: string): Promise<Recovered> {
  const { record, journal, report, why } = recovery
  if (journal.record.outcome === null) {
    const outcome = { vm, error: why, downtimeMs: record.downtimeMs ?? null }
    await journal.close(owner === 'source' ? 'rolled-back' : 'done', outcome, (text) => report.warn(text))
  }
  return { id: record.id, owner, ownerName: record[owner].name, vm: journal.record.outcome?.vm ?? vm, message }
}

/** Nobody has the VM; its disks still belong to the owner by the token, who may start it anew from them. */
export async function lost(recovery: Recovery, why: string): Promise<Recovered> {
  recovery.report.warn(`the VM is lost: ${why}; its disks are as at a power failure`)
  return await ended(recovery, recovery.journal.record.owner, 'lost', why)
}

export async function hasAll({ qmp }: Vm): Promise<boolean> {
  const { status } = await qmp.execute('query-migrate', {}, { timeoutMs: answerMs })
  return status === 'completed'
}

export async function hasImages({ sides, record }: Recovery): Promise<boolean> {
  const nodes = await sides.destination.qmp.execute('query-named-block-nodes', { flat: true }, { timeoutMs: answerMs })
  const files = new Set(record.disks.map(({ file, copy }) => copy?.file ?? file))
  return nodes.some((node) => node.active === true && !node.ro && files.has(node.file))
}

export const readStatus = ({ qmp }: Vm): Promise<StatusInfo> => qmp.execute('query-status', {}, { timeoutMs: answerMs })

export async function quit({ qmp }: Vm): Promise<void> {
  await qmp.execute('quit', {}, { timeoutMs: answerMs })
}

/** Only an empty folder of a channel's name goes: a record must not lead to anything else. */
export async function removeChannel({ channel, hosts }: MigrationRecord): Promise<void> {
  // It is on the source's host.
  if (!isChannelDir(channel) || (hosts !== undefined && !isThisHost(hosts.source))) return
  for (const name of ['migrate.sock', 'nbd.sock']) await unlink(path.join(channel, name)).catch(() => {})
  await rmdir(channel).catch(() => {})
}

export function mayHaveRun({ id, source, destination, disks }: MigrationRecord): OutcomeUnknownError {
  const files = disks.flatMap(({ file }) => file ?? []).join(', ')
  return new OutcomeUnknownError(
    `migration ${id} was left as ${destination.name} was about to be told to run the VM; its QEMU is gone, and nobody can tell whether it ran`,
    `look at its log, the guest's log and network, and when the disks were last written (${files || 'none'}). If the VM did not run there, it can go on at ${source.name}: vblk migrate recover ${id} --destination-ran no. If it did, or you can't tell: --destination-ran yes, and start it anew from its disks`,
    undefined,
  )
}
