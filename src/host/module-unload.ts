// SPDX-License-Identifier: GPL-2.0-or-later
import { ExitCode, VblkError } from '../errors.ts'
import { findDeviceUsers } from './device-users.ts'
import { type LoadedModule, readLoadedModule } from './loaded-module.ts'
import { MODULE_NAME } from './module-file.ts'
import { requireRoot } from './root.ts'
import { runTool, type ToolOptions } from './run-tool.ts'

export interface UnloadResult {
  /** False if it was not loaded. */
  changed: boolean
  /** What was run, or would be. */
  steps: string[]
  dryRun: boolean
}

/**
 * Unloads the module if it is loaded.
 * @throws VblkError Busy that names the processes which hold /dev/vhost-blk, HostLacks without the permission
 */
export async function unloadModule({
  dryRun = false,
  ...options
}: Pick<ToolOptions, 'signal' | 'timeoutMs'> & { dryRun?: boolean }): Promise<UnloadResult> {
  const loaded = await readLoadedModule()
  if (!loaded) return { changed: false, steps: [], dryRun }
  if (loaded.refcount > 0) throw await inUse(loaded)
  const steps = [`rmmod ${MODULE_NAME}`]
  if (dryRun) return { changed: false, steps, dryRun }
  requireRoot('unload')
  const { exitCode, tail } = await runTool('rmmod', [MODULE_NAME], { ...options, package: 'kmod' })
  if (exitCode === 0) return { changed: true, steps, dryRun }
  throw await unloadFailure(exitCode, tail)
}

async function unloadFailure(exitCode: number, tail: string[]): Promise<Error> {
  // Somebody opened the device since we looked, or unloaded the module.
  const now = await readLoadedModule()
  if (now && now.refcount > 0) return inUse(now)
  const reason = tail.at(-1)?.trim() ?? `rmmod ended with ${exitCode}`
  return new VblkError('MODULE_NOT_UNLOADED', ExitCode.Refused, `${MODULE_NAME} was not unloaded: ${reason}`, {
    details: { output: tail },
  })
}

async function inUse(module: LoadedModule): Promise<VblkError> {
  const users = await findDeviceUsers()
  const names = users.map(({ command, pid }) => `${command} (pid ${pid})`).join(', ')
  const message = `${MODULE_NAME} is in use by ${names || `${module.refcount} holders that this user cannot see`}`
  return new VblkError('MODULE_IN_USE', ExitCode.Busy, message, {
    hint: 'detach their disks (vblk detach) or shut them down first',
    details: { pids: users.map(({ pid }) => pid), refcount: module.refcount },
  })
}
