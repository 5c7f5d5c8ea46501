// SPDX-License-Identifier: GPL-2.0-or-later

import { listDisks } from '../disk/info.ts'
import { nodeName } from '../disk/names.ts'
import { isSameSource } from '../disk/source.ts'
import { ExitCode, VblkError } from '../errors.ts'
import type { BlockDeviceInfo, WaitOptions } from '../qmp/index.ts'
import { listChildren } from '../vm/qom.ts'
import { readFacts, requireVhostBlk, type Vm } from '../vm/vm.ts'
import { type DescribedDisk, diskDifferences, diskName, isCounterpart } from './differences.ts'
import { Findings } from './findings.ts'
import { checkSameDisks } from './hosts/same-disks.ts'
import { requireKernelHere, requireKernelThere } from './kernel-datapath.ts'
import type { MigrateOptions, Sides } from './options.ts'
import { withPassedImage } from './passed-image.ts'
import type { Plan, PlannedDisk } from './plan.ts'
import { requireUserfaultfd } from './postcopy/userfaultfd.ts'
import { onImage, planPreparation } from './preparation.ts'
import { readDeviceProperties } from './properties.ts'
import { checkDestinationState, checkSourceState } from './runstates.ts'
import { capabilityFaults, planSettings } from './settings.ts'
import { checkNewImage, planCopy, requireApart, requireCopyable } from './storage/plan-copy.ts'
import { writeCacheFault } from './write-cache.ts'

/**
 * Looks at both sides, changes nothing, and plans the migration. Throws VblkError: exit code 4 when the destination has
 * no vhost-blk device, 5 when the sides don't fit each other, 9 when a migration is under way; all that is found at once.
 */
export async function preflight(sides: Sides, options: MigrateOptions): Promise<Plan> {
  const wait = { signal: options.signal }
  const { source, destination } = sides
  const facts = { source: await readFacts(source, wait), destination: await readFacts(destination, wait) }
  const streams = {
    source: await source.qmp.execute('query-migrate', {}, wait),
    destination: await destination.qmp.execute('query-migrate', {}, wait),
  }
  const states = new Findings()
  await states.attempt(() => checkSourceState(source.name, facts.source.status.status, streams.source))
  await states.attempt(() =>
    checkDestinationState(destination.name, facts.destination.status.status, streams.destination),
  )
  // What a QEMU in another state shows says nothing of the migration.
  states.throwIfAny()

  const findings = new Findings()
  await findings.attempt(() => requireSame(facts.source.machine, facts.destination.machine))
  const capabilities = await capabilityFaults(sides, options, wait)
  await findings.attempt(() => {
    if (capabilities.length > 0) throw doesNotFit(`migration capability ${capabilities.join('; ')}`)
  })
  const disks = await pairDisks(sides, options, findings)
  if (disks.some(({ preparation }) => preparation !== undefined))
    await findings.attempt(() => requireVhostBlk(destination, wait))
  await requireIothreads(destination, disks, findings, wait)
  await checkSameDisks(sides, disks, findings)
  await findings.attempt(() => requireApart(disks))
  if (options.postcopy === true) await findings.attempt(() => requireUserfaultfd(destination))
  findings.throwIfAny()
  const wasRunning = facts.source.status.running
  const postcopy = options.postcopy === true && wasRunning
  if (options.postcopy === true && !wasRunning)
    options.report.warn(`${source.name} stands still, so its memory does not change: it moves without postcopy`)
  return {
    wasRunning,
    disks,
    settings: await planSettings(sides, { ...options, postcopy }, wait),
    keepSource: options.keepSource,
    bandwidth: options.bandwidth,
    postcopy: postcopy ? { afterMs: afterMsOf(options) } : undefined,
  }
}

const afterMsOf = ({ postcopyAfter: seconds }: MigrateOptions) => (seconds === undefined ? undefined : seconds * 1000)

function requireSame(machine: string, there: string): void {
  if (there !== machine) throw doesNotFit(`its machine is ${there}, not ${machine}`)
}

/** The disks that are made there get the iothreads of the source, by name. */
async function requireIothreads(
  destination: Vm,
  disks: readonly PlannedDisk[],
  findings: Findings,
  wait: WaitOptions,
): Promise<void> {
  const wanted = disks.flatMap(({ preparation }) => preparation?.spec.iothread ?? [])
  if (wanted.length === 0) return
  const objects = await listChildren(destination, '/objects', wait)
  const there = objects.filter(({ type }) => type === 'iothread').map(({ name }) => name)
  for (const id of new Set(wanted.filter((each) => !there.includes(each))))
    await findings.attempt(() => {
      throw doesNotFit(`it has no iothread ${id}`, `start the destination with "-object iothread,id=${id}"`)
    })
}

/** Those disks whose counterparts fit, or can be made. */
async function pairDisks(
  { source, destination }: Sides,
  options: MigrateOptions,
  findings: Findings,
): Promise<PlannedDisk[]> {
  const wait = { signal: options.signal }
  const nodes = await source.qmp.execute('query-named-block-nodes', { flat: true }, wait)
  const [ours, theirs] = [await describeDisks(source, wait), await describeDisks(destination, wait)]
  const requests = options.copyStorage ?? new Map<string, string | undefined>()
  const all = ours.map(({ disk }) => disk)
  await findings.attempt(() => requireCopyable({ source, destination }, all, requests))
  const pairs: PlannedDisk[] = []
  for (const described of ours) {
    const pair = await findings.attempt(async () => {
      const planned = await pairDisk(described, theirs, nodes, options)
      const { spec } = planned.preparation ?? {}
      if (spec?.passFds === true && planned.copy === undefined)
        await withPassedImage(source, spec, wait, async () => {})
      return planned
    })
    if (pair !== undefined) pairs.push(pair)
  }
  for (const { disk } of theirs.filter((their) => !ours.some((our) => isCounterpart(our.disk, their.disk)))) {
    await findings.attempt(() => {
      throw doesNotFit(`it has ${diskName(disk)}, which the source has not`)
    })
  }
  return pairs
}

async function pairDisk(
  described: DescribedDisk,
  theirs: DescribedDisk[],
  nodes: BlockDeviceInfo[],
  { report, datapath, copyStorage }: Pick<MigrateOptions, 'report' | 'datapath' | 'copyStorage'>,
): Promise<PlannedDisk> {
  const name = diskName(described.disk)
  const needsKernel = datapath === 'kernel'
  if (needsKernel) requireKernelHere(name, described.disk)
  const here = { name, source: described.disk, properties: described.properties }
  const there = theirs.find(({ disk }) => isCounterpart(described.disk, disk))
  const { id } = described.disk
  const isCopied = id !== null && copyStorage?.has(id) === true
  const wanted = isCopied ? copyStorage.get(id) : undefined
  if (there === undefined) {
    const shared = planPreparation(described, nodes, needsKernel)
    const image = isCopied ? await checkNewImage(described.disk, wanted) : undefined
    const preparation = image === undefined ? shared : onImage(shared, image)
    const copy = image === undefined ? undefined : { file: image.file, node: nodeName(shared.id) }
    // A device with an id has the same place in every QEMU's object tree.
    return { ...here, destination: { ...described.disk, file: preparation.spec.source.file }, preparation, copy }
  }
  const copy = isCopied ? await planCopy(described.disk, there.disk, wanted) : undefined
  if (needsKernel) requireKernelThere(name, there.disk)
  await checkFits(described, there, copy !== undefined)
  if (described.disk.writeCache.current === null || there.disk.writeCache.current === null) {
    report.warn(`${name}: QEMU's virtio-blk does not tell its write cache, so it can't be verified`)
  }
  return { ...here, destination: there.disk, preparation: undefined, copy }
}

async function describeDisks(vm: Vm, wait: WaitOptions): Promise<DescribedDisk[]> {
  const described: DescribedDisk[] = []
  for (const disk of await listDisks(vm, wait)) {
    described.push({ disk, properties: await readDeviceProperties(vm, disk, wait) })
  }
  return described
}

/** Throws VblkError (exit code 5) that says why a disk's counterpart can't take its place; `copied`: its image is another. */
export async function checkFits(here: DescribedDisk, there: DescribedDisk, copied = false): Promise<void> {
  const [from, to] = [here.disk, there.disk]
  const sameFile =
    copied ||
    from.file === to.file ||
    (from.file !== null && to.file !== null && (await isSameSource(from.file, to.file)))
  const found = diskDifferences(here, there, sameFile)
  if (found.length > 0) {
    throw new VblkError(
      'DISK_DIFFERS',
      ExitCode.Refused,
      `${diskName(from)} differs on the destination: ${found.join('; ')}`,
      { hint: 'start the destination with the same disk, or without it', details: { differences: found } },
    )
  }
  // A device that can tell its write cache gets the guest's choice with the stream.
  if (to.writeCache.current !== null) return
  const lost = writeCacheFault(from.writeCache, to.writeCache, to.writeCacheSetting)
  if (lost === undefined) return
  throw new VblkError('WRITE_CACHE_LOST', ExitCode.Refused, `${diskName(from)}: ${lost}`, {
    hint: `start the destination with a vhost-blk-pci, or with write-cache=off for ${diskName(from)}`,
  })
}

function doesNotFit(what: string, hint?: string): VblkError {
  const options = { ...(hint !== undefined && { hint }) }
  return new VblkError('DESTINATION_DIFFERS', ExitCode.Refused, `the destination does not fit: ${what}`, options)
}
