// SPDX-License-Identifier: GPL-2.0-or-later
import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import { ExitCode, VblkError } from '../errors.ts'
import { buildRoot, cacheDir, packageRoot } from './paths.ts'
import type { QemuBinary } from './qemu.ts'
import { runTool, type ToolOptions } from './run-tool.ts'

/** A vhost-blk device object fits one QEMU binary, so each lies in a folder named after that binary's build id. */
const FILE_NAME = 'vhost-blk.so'

/**
 * The folders that hold device objects, first match wins: $VBLK_DEVICE_DIR, the package's own, a checkout's builds, this
 * host's builds, and the distribution's package.
 */
export function deviceDirs(): string[] {
  const given = process.env.VBLK_DEVICE_DIR
  return [
    ...(given ? [given] : []),
    join(packageRoot, 'native/qemu/objects'),
    join(cacheDir, 'native'),
    '/var/lib/vblk/native',
    '/usr/lib/vblk/device',
  ]
}

/** Where `vblk device build` puts objects unless told. */
export function deviceBuildDir(): string {
  return process.env.VBLK_DEVICE_DIR ?? join(buildRoot(), 'native')
}

/** The device object for a QEMU binary, or undefined if none was built for it. */
export function findDeviceObject({ buildId }: QemuBinary, dirs = deviceDirs()): string | undefined {
  return dirs.map((dir) => join(dir, buildId, FILE_NAME)).find((path) => existsSync(path))
}

/** Whether a path is that of a device object, of this host or another. */
export const isDeviceObject = (path: string): boolean => basename(path) === FILE_NAME

/** Like findDeviceObject. @throws VblkError HostLacks that names the build command */
export function requireDeviceObject(qemu: QemuBinary): string {
  const found = findDeviceObject(qemu)
  if (found) return found
  const message = `there is no vhost-blk device for ${qemu.path} (build id ${qemu.buildId})`
  throw new VblkError('NO_DEVICE_OBJECT', ExitCode.HostLacks, message, {
    hint: `build it: vblk device build ${qemu.path}`,
    details: { searched: deviceDirs() },
  })
}

/** The start arguments that load a device object. QEMU reads a doubled comma as one of the file's name. */
export function deviceArguments(object: string): string[] {
  return ['-plugin', `file=${object.replaceAll(',', ',,')}`]
}

/**
 * The command that builds the device object for a QEMU binary.
 * @throws VblkError HostLacks in an installation without its source
 */
export function deviceBuildCommand(qemu: QemuBinary, dir: string): string[] {
  const script = join(packageRoot, 'native/qemu/build')
  if (!existsSync(script)) {
    throw new VblkError(
      'NO_DEVICE_SOURCE',
      ExitCode.HostLacks,
      `this installation lacks the device's source (${script})`,
      {
        hint: 'build it in a checkout of vblk, and set VBLK_DEVICE_DIR to the folder of the result',
      },
    )
  }
  return [script, '--qemu', qemu.path, '--out', dir]
}

/**
 * Builds it.
 * @returns the object's path
 * @throws VblkError with the exit code of that script's own classes, and its last lines in details.output
 */
export async function buildDeviceObject(
  qemu: QemuBinary,
  dir: string,
  options: Omit<ToolOptions, 'package'>,
): Promise<string> {
  const [script = '', ...args] = deviceBuildCommand(qemu, dir)
  const { exitCode, tail } = await runTool(script, args, { ...options, package: 'bash' })
  const object = join(dir, qemu.buildId, FILE_NAME)
  if (exitCode === 0 && existsSync(object)) return object
  const said = tail.findLast((line) => line.startsWith('device build: '))?.slice('device build: '.length)
  const message = `the device for ${qemu.path} was not built: ${said ?? `${script} ended with ${exitCode}`}`
  throw new VblkError('DEVICE_BUILD_FAILED', ExitCode.HostLacks, message, { details: { output: tail, exitCode } })
}
