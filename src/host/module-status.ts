// SPDX-License-Identifier: GPL-2.0-or-later
import { release } from 'node:os'
import { type DeviceUser, findDeviceUsers } from './device-users.ts'
import { type LoadedModule, readLoadedModule } from './loaded-module.ts'
import { moduleSourceDir } from './module-build.ts'
import { findModuleFile, type ModuleFile } from './module-file.ts'
import { readInfo } from './vhost-blk.ts'

export interface ModuleStatus {
  /** The running kernel's release. */
  kernel: string
  source: string | null
  /** The file that `vblk module load` would load. */
  file: ModuleFile | null
  /** abiVersion is null if /dev/vhost-blk could not be asked. */
  loaded: (LoadedModule & { abiVersion: number | null }) | null
  /** Processes that hold /dev/vhost-blk, of those that this user may inspect. */
  users: DeviceUser[]
}

/** Looks at the module without changing anything. @throws VblkError HostLacks for a broken module file */
export async function readModuleStatus(buildDir?: string): Promise<ModuleStatus> {
  const loaded = await readLoadedModule()
  return {
    kernel: release(),
    source: moduleSourceDir() ?? null,
    file: (await findModuleFile(buildDir)) ?? null,
    loaded: loaded ? { ...loaded, abiVersion: askAbi() } : null,
    users: loaded ? await findDeviceUsers() : [],
  }
}

function askAbi(): number | null {
  try {
    return readInfo().abiVersion
  } catch {
    return null
  }
}
