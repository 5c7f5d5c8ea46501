// SPDX-License-Identifier: GPL-2.0-or-later

import { pause } from '../../disk/pause.ts'
import { ExitCode, VblkError } from '../../errors.ts'
import type { Findings } from '../findings.ts'
import type { Sides } from '../options.ts'
import type { PlannedDisk } from '../plan.ts'
import { hostOf } from './host-of.ts'
import type { OtherHost } from './other-host.ts'
import type { DiskIdentity } from './protocol.ts'
import { thisHost } from './this-host.ts'

/**
 * Whether every disk is the very same on the destination's host: two hosts that write to two disks would be two VMs. Adds to
 * the findings what isn't, or can't be told. Does nothing for two QEMUs of one host.
 */
export async function checkSameDisks(sides: Sides, disks: readonly PlannedDisk[], findings: Findings): Promise<void> {
  const there = hostOf(sides.destination)
  if (there === undefined) return
  for (const disk of disks) {
    await findings.attempt(async () => {
      const { name, source, destination, preparation } = disk
      if (preparation?.spec.passFds === true) {
        throw refusal(name, 'it was passed to QEMU as a descriptor, and none can be passed to another host')
      }
      // A cache of one host knows nothing of what the other host writes.
      if (source.cache !== 'none') {
        throw refusal(name, `its host cache mode is ${source.cache ?? 'unknown'}; between hosts only none is safe`)
      }
      await requireSame(name, source.file, destination.file, there.host)
    })
  }
}

const attempts = 4
const againMs = 300

async function requireSame(name: string, here: string | null, there: string | null, host: OtherHost): Promise<void> {
  if (here === null || there === null) throw refusal(name, 'QEMU does not tell its file')
  let unequal: Set<number> | undefined
  for (let attempt = 1; attempt <= attempts; attempt++) {
    const [ours, theirs] = await Promise.all([thisHost.disk(here), host.ask('disk', { file: there })])
    if ('fault' in ours) throw refusal(name, `${here} on this host: ${ours.fault}`)
    if ('fault' in theirs) throw refusal(name, `${there} on ${host.name}: ${theirs.fault}`)
    const difference = differenceOf(ours, theirs)
    if (difference !== undefined) throw refusal(name, `${there} on ${host.name} is another disk: ${difference}`)
    // The guest writes meanwhile: each block must have been the same once.
    unequal = new Set(unequalBlocks(ours, theirs).filter((block) => unequal?.has(block) ?? true))
    if (unequal.size === 0) return
    await pause(againMs)
  }
  throw refusal(name, `${there} on ${host.name} does not hold what it holds on this host`)
}

/** In what two disks differ that must be the same; undefined if in nothing. */
export function differenceOf(ours: DiskIdentity, theirs: DiskIdentity): string | undefined {
  const names = { kind: 'kind', id: 'identity', sizeBytes: 'size', sectorBytes: 'sector size', readOnly: 'read-only' }
  for (const key of ['kind', 'id', 'sizeBytes', 'sectorBytes', 'readOnly'] as const)
    if (ours[key] !== theirs[key]) return `${names[key]} is ${theirs[key]}, not ${ours[key]}`
  return ours.content.length === theirs.content.length ? undefined : 'it can be read to another length'
}

export const unequalBlocks = (ours: DiskIdentity, theirs: DiskIdentity): number[] =>
  ours.content.flatMap((hash, block) => (hash === theirs.content[block] ? [] : [block]))

function refusal(name: string, why: string): VblkError {
  return new VblkError('DISK_NOT_SHARED', ExitCode.Refused, `${name}: ${why}`, {
    hint: 'both hosts must have the same disk: on NVMe/TCP, iSCSI, Fibre Channel, LVM on these, or a file on NFS',
  })
}
