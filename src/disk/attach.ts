// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import { QmpCommandError, QmpTimeoutError } from '../qmp/index.ts'
import { migrating, requireHere, saysMigrating } from '../vm/presence.ts'
import { findDevice } from '../vm/qom.ts'
import { listSlots } from '../vm/slots.ts'
import { requireLocal, requireVhostBlk, type Vm } from '../vm/vm.ts'
import { awaitDatapath } from './datapath.ts'
import { Descriptors, removeSets } from './descriptors.ts'
import { pendingUnplug } from './detach.ts'
import { differences } from './differences.ts'
import { type DiskInfo, findDisk, isDisk } from './info.ts'
import { nodeName } from './names.ts'
import {
  attachCommands,
  blockdevAddArguments,
  deviceAddArguments,
  type PlannedCommand,
  throttleArguments,
} from './plan.ts'
import { explainRefusal } from './refusals.ts'
import type { OperationOptions } from './report.ts'
import type { DiskSpec } from './spec.ts'
import { hasNode, removeNode, unplug } from './unplug.ts'

export interface AttachResult {
  id: string
  /** False when the very disk was attached already. */
  changed: boolean
  /** The disk as it is now; null in a dry run of something new. */
  disk: DiskInfo | null
  /** What was sent, or would be. */
  commands: PlannedCommand[]
  dryRun: boolean
}

/**
 * Gives a running VM a disk: adds the block node, then the device, and waits until the disk is there and, if the kernel
 * shall serve it, until the guest's driver has started it. Whatever fails on the way, what was added is removed again.
 * Throws VblkError: exit codes 4, 5; 9 while the VM migrates; 6 when the guest must still give back a device that was to be removed; 8 when it
 * can't be told what is left.
 */
export async function attachDisk(vm: Vm, spec: DiskSpec, options: OperationOptions): Promise<AttachResult> {
  const { signal, dryRun } = options
  const { id } = spec
  requireLocal(vm, `${spec.source.file} was looked at here`)
  // All at once: QEMU answers in order, and each wait for an answer costs two wake-ups.
  const hasDevice = begin(requireVhostBlk(vm, { signal }))
  const same = begin(findSame(vm, spec, signal))
  const isHere = begin(requireHere(vm, { signal }))
  const chosen = begin(spec.bus ?? chooseBus(vm, signal))
  await hasDevice
  const existing = await same
  if (existing !== undefined) return { id, changed: false, disk: existing, commands: [], dryRun }
  await isHere
  const bus = await chosen
  const descriptors = spec.passFds === true ? await Descriptors.open(vm, spec, { signal }) : undefined
  try {
    const commands = attachCommands(spec, bus, descriptors)
    if (dryRun) return { id, changed: false, disk: null, commands, dryRun }
    const disk = await addDisk(vm, spec, bus, descriptors, options)
    return { id, changed: true, disk, commands, dryRun }
  } finally {
    descriptors?.close()
  }
}

/** Begins what is awaited later: until then its failure concerns nobody. */
function begin<T>(work: Promise<T> | T): Promise<T> {
  const begun = Promise.resolve(work)
  begun.catch(() => {})
  return begun
}

/** Adds what belongs to a disk, and waits for its datapath; or nothing is added. */
async function addDisk(
  vm: Vm,
  spec: DiskSpec,
  bus: string,
  descriptors: Descriptors | undefined,
  options: OperationOptions,
): Promise<DiskInfo> {
  const { signal, report } = options
  const { id } = spec
  signal.throwIfAborted()
  try {
    // Of an attach that was killed.
    await removeSets(vm, id)
    await descriptors?.pass(vm, { signal })
    const node = blockdevAddArguments(spec, descriptors?.sets)
    await report.step(`opening ${spec.source.file}`, () => vm.qmp.execute('blockdev-add', node, { signal }))
    await report.step(`plugging in ${id}`, async () => {
      await vm.qmp.execute('device_add', deviceAddArguments(spec, bus, descriptors?.sets), { signal })
      const throttle = throttleArguments(spec)
      if (throttle !== undefined) await vm.qmp.execute('block_set_io_throttle', throttle, { signal })
    })
    return await awaitDatapath(vm, spec, options)
  } catch (error) {
    await rollBack(vm, id, options)
    throw explainFailure(vm, error, spec)
  }
}

/** The disk, if it is attached as asked. Throws VblkError (exit code 5) for anything else that stands in the way. */
async function findSame(vm: Vm, spec: DiskSpec, signal: AbortSignal): Promise<DiskInfo | undefined> {
  const { id } = spec
  const [device, isNodeThere] = await Promise.all([
    findDevice(vm, id, { signal }),
    hasNode(vm, nodeName(id), { signal }),
  ])
  if (device === undefined) {
    if (!isNodeThere) return undefined
    throw new VblkError(
      'NODE_EXISTS',
      ExitCode.Refused,
      `a block node ${nodeName(id)} without a device is there already`,
      {
        hint: `if an interrupted command left it: vblk detach ${vm.name} ${id}`,
      },
    )
  }
  const disk = isDisk(device) ? await findDisk(vm, id, { signal }) : undefined
  if (disk === undefined) {
    throw new VblkError('ID_TAKEN', ExitCode.Refused, `the id ${id} belongs to a ${device.type} of this VM`, {
      hint: 'choose another --id',
    })
  }
  const found = await differences(disk, spec)
  if (found.length === 0) return disk
  throw new VblkError('DISK_DIFFERS', ExitCode.Refused, `${id} is attached already, and differs: ${found.join('; ')}`, {
    hint: 'detach it first, or choose another --id',
    details: { differences: found },
  })
}

async function chooseBus(vm: Vm, signal: AbortSignal): Promise<string> {
  const slots = await listSlots(vm, { signal })
  const free = slots.find((slot) => slot.occupants.length === 0)
  if (free !== undefined) return free.bus
  const what =
    slots.length === 0 ? 'has no hot-pluggable PCIe port' : `has no free one among ${slots.length} hot-plug ports`
  throw new VblkError('NO_FREE_SLOT', ExitCode.Refused, `${vm.name}: this VM ${what}`, {
    hint: 'start QEMU with more "-device pcie-root-port,id=…,chassis=N", or name a --bus',
  })
}

function explainFailure(vm: Vm, error: unknown, spec: DiskSpec): unknown {
  if (error instanceof QmpCommandError) {
    return saysMigrating(error.desc) ? migrating(vm, error) : explainRefusal(error, spec)
  }
  if (!(error instanceof QmpTimeoutError)) return error
  return new VblkError('ATTACH_TIMED_OUT', ExitCode.RolledBack, `${error.message}; what was added is removed again`, {
    cause: error,
  })
}

// Long enough for a guest that is well, short enough for someone who has just pressed Ctrl-C.
const shortestRollbackMs = 5_000
const longestRollbackMs = 15_000

/**
 * Removes what was added and proves that it is gone. QMP runs commands in order, so an answer here also means that an
 * add which was given up half-way is over.
 */
async function rollBack(vm: Vm, id: string, { report, timeoutMs }: OperationOptions): Promise<void> {
  try {
    await report.step(`removing ${id} again`, async () => {
      if ((await findDevice(vm, id)) !== undefined) {
        const patience = Math.max(shortestRollbackMs, Math.min(timeoutMs, longestRollbackMs))
        const outcome = await unplug(vm, id, { timeoutMs: patience })
        if (outcome === 'pending')
          throw pendingUnplug(vm, id, `the attach failed, and the guest has not given back ${id}`)
      }
      await removeNode(vm, id)
      await removeSets(vm, id)
    })
  } catch (error) {
    if (error instanceof VblkError && error.code === 'DETACH_PENDING') throw error
    throw new VblkError(
      'ROLLBACK_FAILED',
      ExitCode.Unknown,
      `the attach failed, and so did removing what it had added: ${(error as Error).message}`,
      { hint: `if the VM still runs, ask it with: vblk list ${vm.name}`, cause: error },
    )
  }
}
