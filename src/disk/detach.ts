// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import { requireHere } from '../vm/presence.ts'
import { findDevice } from '../vm/qom.ts'
import type { Vm } from '../vm/vm.ts'
import { findSets, removeSets } from './descriptors.ts'
import { type DiskInfo, findDisk, isDisk } from './info.ts'
import { checkId, nodeName } from './names.ts'
import { type PlannedCommand, removalCommands } from './plan.ts'
import type { OperationOptions } from './report.ts'
import { hasNode, removeNode, unplug } from './unplug.ts'

export interface DetachResult {
  id: string
  /** Whether anything was there to remove. */
  changed: boolean
  removed: { device: boolean; node: boolean }
  /** The node of a disk that vblk did not attach: it was there before, and stays. */
  keptNode: string | null
  /** What was sent, or would be. */
  commands: PlannedCommand[]
  dryRun: boolean
}

/**
 * Takes a disk from its guest: unplugs the device, then removes the block node that attach made. Does what is left of an
 * earlier detach that was given up, and nothing when there is nothing. Throws VblkError: exit code 6 while the guest
 * hasn't answered (asking again is safe), 5 when QEMU refuses, 9 while the VM migrates.
 */
export async function detachDisk(vm: Vm, id: string, options: OperationOptions): Promise<DetachResult> {
  const { signal, dryRun, report } = options
  checkId(id)
  const device = await findDevice(vm, id, { signal })
  if (device !== undefined && !isDisk(device)) {
    throw new VblkError('NOT_A_DISK', ExitCode.Refused, `${id} is a ${device.type}, not a virtio disk`)
  }
  const disk = device && (await findDisk(vm, id, { signal }))
  const present = {
    device: device !== undefined,
    node: await hasNode(vm, nodeName(id), { signal }),
    sets: await findSets(vm, id, { signal }),
  }
  const result: DetachResult = {
    id,
    changed: (present.device || present.node || present.sets.length > 0) && !dryRun,
    removed: { device: present.device && !dryRun, node: present.node && !dryRun },
    keptNode: foreignNode(disk, id),
    commands: removalCommands(id, present),
    dryRun,
  }
  if (present.device) await requireHere(vm, { signal })
  if (dryRun) return result
  signal.throwIfAborted()
  if (present.device)
    await report.wait(`waiting for the guest to give up ${id}`, () => unplugOrExplain(vm, id, options))
  if (present.node) await report.step(`removing the block node ${nodeName(id)}`, () => removeNode(vm, id))
  await removeSets(vm, id)
  return result
}

function foreignNode(disk: DiskInfo | undefined, id: string): string | null {
  const node = disk?.node ?? null
  return node === nodeName(id) ? null : node
}

async function unplugOrExplain(vm: Vm, id: string, { timeoutMs, signal }: OperationOptions): Promise<void> {
  if ((await unplug(vm, id, { timeoutMs, signal })) === 'gone') return
  const when = signal.aborted ? 'when it was interrupted' : `after ${timeoutMs / 1000} s`
  throw pendingUnplug(vm, id, `the guest had not given up ${id} ${when}`)
}

/** The state in which only the guest can finish the work; exit code 6. */
export function pendingUnplug(vm: Vm, id: string, what: string): VblkError {
  return new VblkError('DETACH_PENDING', ExitCode.TimedOut, `${what}; the request stays pending`, {
    hint: `the guest must run and have a driver for its PCI slots; ask again with: vblk detach ${vm.name} ${id}`,
  })
}
