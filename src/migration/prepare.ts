// SPDX-License-Identifier: GPL-2.0-or-later

import { Descriptors, removeSets } from '../disk/descriptors.ts'
import { findDisk } from '../disk/info.ts'
import { explainRefusal } from '../disk/refusals.ts'
import type { DiskSpec } from '../disk/spec.ts'
import { removeNode, unplug } from '../disk/unplug.ts'
import { ExitCode, VblkError } from '../errors.ts'
import { QmpCommandError } from '../qmp/index.ts'
import { findDevice } from '../vm/qom.ts'
import type { Vm } from '../vm/vm.ts'
import { send } from './commands.ts'
import { requireKernelThere } from './kernel-datapath.ts'
import type { Sides } from './options.ts'
import { withPassedImage } from './passed-image.ts'
import { type PlannedDisk, prepareCommands } from './plan.ts'
import { checkFits } from './preflight.ts'
import type { Preparation } from './preparation.ts'
import { readDeviceProperties } from './properties.ts'

/**
 * Makes a disk on the destination and checks that it became the same. Throws VblkError: exit codes 3 when the destination
 * doesn't see the file, 4, 5. What it has made by then is for removeDisk to remove.
 */
export async function prepareDisk(sides: Sides, disk: PlannedDisk, preparation: Preparation, signal: AbortSignal) {
  const { source, destination } = sides
  const { spec } = preparation
  const add = async (descriptors?: Descriptors) => {
    for (const command of prepareCommands(preparation, descriptors?.sets)) await send(sides, command, { signal })
  }
  try {
    if (spec.passFds !== true) await add()
    else if (disk.copy !== undefined) await addPassed(destination, spec, undefined, signal, add)
    else
      await withPassedImage(source, spec, { signal }, (descriptor) =>
        addPassed(destination, spec, descriptor, signal, add),
      )
  } catch (error) {
    throw error instanceof QmpCommandError ? explain(error, preparation) : error
  }
  const made = await findDisk(destination, preparation.id, { signal })
  if (made === undefined) {
    throw new VblkError('DISK_VANISHED', ExitCode.Refused, `${disk.name} was made on the destination and is gone again`)
  }
  if (preparation.needsKernel) requireKernelThere(disk.name, made)
  await checkFits(
    { disk: disk.source, properties: disk.properties },
    { disk: made, properties: await readDeviceProperties(destination, made, { signal }) },
    disk.copy !== undefined,
  )
}

/** Passes the files of a disk, the image as the source's descriptor has it open if there is one, and adds the disk. */
async function addPassed(
  destination: Vm,
  spec: DiskSpec,
  descriptor: number | undefined,
  signal: AbortSignal,
  add: (descriptors: Descriptors) => Promise<void>,
): Promise<void> {
  const opened = descriptor === undefined ? spec : { ...spec, source: { ...spec.source, descriptor } }
  const descriptors = await Descriptors.open(destination, opened, { signal })
  try {
    await descriptors.pass(destination, { signal })
    await add(descriptors)
  } finally {
    descriptors.close()
  }
}

function explain(error: QmpCommandError, { id, spec }: Preparation): VblkError {
  const { code, exitCode, message, details } = explainRefusal(error, spec)
  return new VblkError(code, exitCode, `${id} can't be made on the destination: ${message}`, {
    ...(exitCode === ExitCode.NotFound && { hint: 'the destination may run in another mount namespace or chroot' }),
    ...(details && { details }),
    cause: error,
  })
}

const unaidedMs = 300
const removalMs = 10_000

/** Removes from a destination that has never run what prepareDisk made. Throws VblkError when it can't. */
export async function removeDisk(destination: Vm, id: string): Promise<void> {
  if ((await findDevice(destination, id)) !== undefined) {
    if ((await unplug(destination, id, { timeoutMs: unaidedMs })) === 'pending') await unplugByReset(destination, id)
  }
  await removeNode(destination, id)
  await removeSets(destination, id)
}

/** ACPI's hot-plug waits for a guest's answer, and there is no guest yet; a reset gives up what is to be unplugged. */
async function unplugByReset(destination: Vm, id: string): Promise<void> {
  await destination.qmp.execute('system_reset')
  if ((await unplug(destination, id, { timeoutMs: removalMs })) === 'gone') return
  throw new VblkError('DISK_LEFT', ExitCode.Unknown, `QEMU does not give up ${id} on the destination`)
}
