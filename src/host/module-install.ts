// SPDX-License-Identifier: GPL-2.0-or-later
import { copyFile, link, mkdir, readFile, rename, rm } from 'node:fs/promises'
import { release } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { ExitCode, VblkError } from '../errors.ts'
import { readLoadedModule } from './loaded-module.ts'
import { findModuleFile, MODULE_NAME, type ModuleFile, moduleBuildDir } from './module-file.ts'
import { requireModuleFile } from './module-load.ts'
import { requireRoot } from './root.ts'
import { runTool, type ToolOptions } from './run-tool.ts'

export interface InstallResult {
  /** Where modprobe finds it. */
  path: string
  /** The file that it was copied from. */
  from: string
  /** False if it was there already. */
  changed: boolean
  /** What was done, or would be. */
  steps: string[]
  dryRun: boolean
}

/** Where the file of a loaded module is kept when another one takes its place, so that an upgrade can be taken back. */
export function previousDir(): string {
  return join(moduleBuildDir(), 'previous')
}

/**
 * Puts the built module where modprobe finds it. What is loaded stays loaded.
 * @param buildDir - the folder in which it was built
 * @throws VblkError HostLacks if there is none for this kernel, or depmod finds another one first
 */
export async function installModule(
  buildDir: string,
  options: Pick<ToolOptions, 'signal' | 'timeoutMs'> & { dryRun: boolean },
): Promise<InstallResult> {
  const { dryRun, ...tool } = options
  const built = await requireModuleFile(buildDir)
  const path = join('/lib/modules', release(), 'updates', basename(built.path))
  const result = { path, from: built.path, dryRun }
  const installed = await findModuleFile()
  if (installed?.path === path && (await haveSameContent(path, built.path)))
    return { ...result, changed: false, steps: [] }
  const steps = [`install ${built.path} ${path}`, 'depmod']
  if (dryRun) return { ...result, changed: false, steps }
  requireRoot('install')
  if (installed?.installed) await keep(installed)
  const putBack = await setAside(path)
  try {
    await replaceFile(built.path, path)
    await requireFound(path, tool)
  } catch (error) {
    await putBack(true)
    // The failure that matters is the first; an index that lacks the file or has it twice does no harm.
    await runTool('depmod', [], { package: 'kmod' }).catch(() => {})
    throw error
  }
  await putBack(false)
  return { ...result, changed: true, steps }
}

/** Has the index of modules made anew, and sees that modprobe finds this file. */
async function requireFound(path: string, tool: Pick<ToolOptions, 'signal' | 'timeoutMs'>): Promise<void> {
  const { exitCode, tail } = await runTool('depmod', [], { ...tool, package: 'kmod' })
  const now = exitCode === 0 ? await findModuleFile() : undefined
  if (now?.path === path) return
  const why = exitCode === 0 ? `modprobe finds ${now?.path ?? 'none'} first` : `depmod: ${tail.at(-1) ?? exitCode}`
  throw new VblkError('MODULE_NOT_INSTALLED', ExitCode.HostLacks, `${path} was not installed: ${why}`, {
    hint: 'remove the other one, or rename it; DKMS: dkms remove vhost-blk/VERSION --all',
  })
}

/** Remembers what is at a path, if anything; the function returned puts that back, or forgets it. */
async function setAside(path: string): Promise<(back: boolean) => Promise<void>> {
  const aside = `${path}.${process.pid}.old`
  const isThere = await link(path, aside).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false
      throw new VblkError('NOT_WRITABLE', ExitCode.HostLacks, `${path}: ${error.message}`, { cause: error })
    },
  )
  return async (back) => {
    if (back && isThere) await rename(aside, path)
    else if (back) await rm(path, { force: true })
    // Also when both were one file still: then rename has done nothing (rename(2)).
    await rm(aside, { force: true })
  }
}

async function keep(installed: ModuleFile): Promise<void> {
  const loaded = await readLoadedModule()
  if (loaded?.srcversion !== installed.srcversion) return
  await replaceFile(installed.path, join(previousDir(), basename(installed.path)))
}

/** The file that the loaded module is from, or one like it; undefined if none is left. */
export async function findLoadedFile(): Promise<ModuleFile | undefined> {
  const loaded = await readLoadedModule()
  if (loaded?.srcversion === undefined) return undefined
  for (const dir of [undefined, moduleBuildDir(), previousDir()]) {
    const file = await findModuleFile(dir).catch(() => undefined)
    if (file?.name === MODULE_NAME && file.srcversion === loaded.srcversion) return file
  }
  return undefined
}

/** A file that modprobe reads is there whole, old or new. */
async function replaceFile(from: string, to: string): Promise<void> {
  const unfinished = `${to}.${process.pid}`
  try {
    await mkdir(dirname(to), { recursive: true })
    await copyFile(from, unfinished)
    await rename(unfinished, to)
  } catch (cause) {
    await rm(unfinished, { force: true })
    throw new VblkError('NOT_WRITABLE', ExitCode.HostLacks, `${to}: ${(cause as Error).message}`, { cause })
  }
}

async function haveSameContent(a: string, b: string): Promise<boolean> {
  const [first, second] = await Promise.all([readFile(a), readFile(b)])
  return first.equals(second)
}
