// SPDX-License-Identifier: GPL-2.0-or-later
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { MODULE_NAME } from './module-file.ts'

const SYSFS_DIR = join('/sys/module', MODULE_NAME)

/** The vhost_blk that the kernel has loaded. */
export interface LoadedModule {
  version: string | undefined
  /** As in the file that it was loaded from. */
  srcversion: string | undefined
  /** Open descriptors of /dev/vhost-blk, and modules that depend on it. */
  refcount: number
}

/** What sysfs shows of the loaded module (Documentation/ABI/stable/sysfs-module), or undefined. */
export async function readLoadedModule(): Promise<LoadedModule | undefined> {
  // While it is being loaded or unloaded its state is 'coming' or 'going'.
  if ((await attribute('initstate')) !== 'live') return undefined
  return {
    version: await attribute('version'),
    srcversion: await attribute('srcversion'),
    refcount: Number((await attribute('refcnt')) ?? 0),
  }
}

/** Whether this kernel can load modules at all. */
export function kernelLoadsModules(): boolean {
  return existsSync('/proc/modules')
}

async function attribute(name: string): Promise<string | undefined> {
  const text = await readFile(join(SYSFS_DIR, name), 'utf8').catch(() => undefined)
  return text?.trim()
}
