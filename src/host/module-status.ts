// SPDX-License-Identifier: GPL-2.0-or-later
import { release } from 'node:os'
import { type DeviceUser, findDeviceUsers } from './device-users.ts'
import { ElfError } from './elf.ts'
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

/** Looks at the module without changing anything. A broken module file counts as none. */
export async function readModuleStatus(buildDir?: string): Promise<ModuleStatus> {
  const loaded = await readLoadedModule()
  return {
    kernel: release(),
    source: moduleSourceDir() ?? null,
    file: (await moduleFileOrNone(buildDir)) ?? null,
    loaded: loaded ? { ...loaded, abiVersion: askAbi() } : null,
    users: loaded ? await findDeviceUsers() : [],
  }
}

async function moduleFileOrNone(buildDir: string | undefined): Promise<ModuleFile | undefined> {
  try {
    return await findModuleFile(buildDir)
  } catch (error) {
    if (error instanceof ElfError) return undefined
    throw error
  }
}

function askAbi(): number | null {
  try {
    return readInfo().abiVersion
  } catch {
    return null
  }
}
