// SPDX-License-Identifier: GPL-2.0-or-later
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { release } from 'node:os'
import { join } from 'node:path'
import { ExitCode, VblkError } from '../errors.ts'
import { type ModuleInfo, readModuleInfo } from './module-info.ts'
import { buildRoot } from './paths.ts'

export const MODULE_NAME = 'vhost_blk'

/** A vhost_blk module file on this host. */
export interface ModuleFile extends ModuleInfo {
  path: string
  /** Listed in the running kernel's modules.dep, so that modprobe loads it with what it depends on. */
  installed: boolean
  /** Built for the running kernel. */
  matches: boolean
}

/** Where `vblk module build` puts the module unless told: $VBLK_MODULE_DIR, or a folder named after the kernel. */
export function moduleBuildDir(): string {
  return process.env.VBLK_MODULE_DIR ?? join(buildRoot(), 'kmod', release())
}

/**
 * The module file that would be loaded: the one of the given folder if one is given, else the installed one, else the
 * built one. Undefined if there is none.
 * @throws VblkError HostLacks if it is no module, or packed and modinfo is missing
 */
export async function findModuleFile(buildDir?: string): Promise<ModuleFile | undefined> {
  const installed = buildDir === undefined ? await installedPath() : undefined
  const path = installed ?? builtPath(buildDir ?? moduleBuildDir())
  if (path === undefined) return undefined
  const info = await readInfo(path)
  return { ...info, path, installed: installed !== undefined, matches: info.kernel === release() }
}

async function readInfo(path: string): Promise<ModuleInfo> {
  try {
    return await readModuleInfo(path)
  } catch (cause) {
    if (cause instanceof VblkError) throw cause
    throw new VblkError('BAD_MODULE_FILE', ExitCode.HostLacks, `not a kernel module: ${(cause as Error).message}`, {
      hint: 'build it again: vblk module build',
      cause,
    })
  }
}

/** depmod(8) lists every module that modprobe can find as "path: dependencies", relative to the kernel's folder. */
async function installedPath(): Promise<string | undefined> {
  const dir = join('/lib/modules', release())
  const list = await readFile(join(dir, 'modules.dep'), 'utf8').catch(() => '')
  const line = list.split('\n').find((entry) => /(^|\/)vhost[_-]blk\.ko(\.\w+)?:/.test(entry))
  return line && join(dir, line.slice(0, line.indexOf(':')))
}

function builtPath(dir: string): string | undefined {
  const names = ['', '.xz', '.zst', '.gz'].map((suffix) => join(dir, `${MODULE_NAME}.ko${suffix}`))
  return names.find((path) => existsSync(path))
}
