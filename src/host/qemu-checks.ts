// SPDX-License-Identifier: GPL-2.0-or-later
import { VblkError } from '../errors.ts'
import { type Check, fail, ok } from './check.ts'
import { findDeviceObject } from './device-object.ts'
import { findQemu, type QemuBinary, qemuVersion } from './qemu.ts'
import type { ToolOptions } from './run-tool.ts'

type Options = Pick<ToolOptions, 'signal' | 'timeoutMs'>

/** The oldest QEMU that the device compiles for. */
const OLDEST = [10, 0] as const

/** Checks of QEMU: is it there, does it run, and is there a device object for this very binary. */
export async function checkQemu(given: string | undefined, options: Options): Promise<Check[]> {
  try {
    const qemu = await findQemu(given)
    return [await checkVersion(qemu, options), checkDevice(qemu)]
  } catch (error) {
    if (!(error instanceof VblkError)) throw error
    return [
      fail('qemu', error.message, error.hint ?? ''),
      fail('qemu-device', 'unknown without a QEMU', error.hint ?? ''),
    ]
  }
}

async function checkVersion(qemu: QemuBinary, options: Options): Promise<Check> {
  try {
    const version = await qemuVersion(qemu.path, options)
    const [major = 0, minor = 0] = version.split('.').map(Number)
    const isOld = major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])
    if (!isOld) return ok('qemu', `${qemu.path} version ${version}`)
    return fail('qemu', `${qemu.path} has version ${version}`, `install QEMU ${OLDEST.join('.')} or newer`)
  } catch (error) {
    if (!(error instanceof VblkError) || options.signal?.aborted) throw error
    return fail('qemu', error.message, error.hint ?? 'reinstall QEMU')
  }
}

function checkDevice(qemu: QemuBinary): Check {
  const object = findDeviceObject(qemu)
  if (object) return ok('qemu-device', object)
  return fail('qemu-device', `no vhost-blk device for build id ${qemu.buildId}`, `vblk device build ${qemu.path}`)
}
