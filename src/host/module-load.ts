// SPDX-License-Identifier: GPL-2.0-or-later
import { existsSync } from 'node:fs'
import { release } from 'node:os'
import { ExitCode, VblkError } from '../errors.ts'
import { kernelLoadsModules, type LoadedModule, readLoadedModule } from './loaded-module.ts'
import { findModuleFile, MODULE_NAME, type ModuleFile, moduleBuildDir } from './module-file.ts'
import { requireRoot } from './root.ts'
import { runTool, type ToolOptions } from './run-tool.ts'

type Options = Pick<ToolOptions, 'signal' | 'timeoutMs'>

export interface LoadResult {
  /** False if it was loaded already. */
  changed: boolean
  /** Null in a dry run of one that isn't loaded. */
  module: LoadedModule | null
  /** The file that was loaded, or would be; null if nothing was. */
  path: string | null
  /** What was run, or would be. */
  steps: string[]
  dryRun: boolean
}

/**
 * Loads the module unless it is loaded: an installed one with modprobe, a built one with insmod.
 * @param buildDir - load from this folder and not what is installed
 * @throws VblkError HostLacks if there is none, it was built for another kernel, or the kernel refuses it
 */
export async function loadModule(
  buildDir: string | undefined,
  { dryRun = false, ...options }: Options & { dryRun?: boolean },
): Promise<LoadResult> {
  const loaded = await readLoadedModule()
  if (loaded) return { changed: false, module: loaded, path: null, steps: [], dryRun }
  const file = await requireModuleFile(buildDir)
  requireModuleSupport()
  const steps = loadSteps(file)
  if (dryRun) return { changed: false, module: null, path: file.path, steps, dryRun }
  requireRoot('load')
  if (file.installed) await insert('modprobe', [MODULE_NAME], file, options)
  else await insertWithVhost(file, options)
  const module = await readLoadedModule()
  if (!module) throw new Error(`${file.path} was loaded and is not there`)
  return { changed: true, module, path: file.path, steps, dryRun }
}

function loadSteps(file: ModuleFile): string[] {
  if (file.installed) return [`modprobe ${MODULE_NAME}`]
  return [...(hasVhost() ? [] : ['modprobe vhost']), `insmod ${file.path}`]
}

const hasVhost = () => existsSync('/sys/module/vhost')

/**
 * Loads a module file by insmod, with what it needs: the one thing is vhost, which modprobe brings with vhost_iotlb.
 * @throws VblkError HostLacks with the kernel's reason
 */
export async function insertWithVhost(file: ModuleFile, options: Options): Promise<void> {
  const hadVhost = hasVhost()
  if (!hadVhost) await insert('modprobe', ['vhost'], file, options)
  try {
    await insert('insmod', [file.path], file, options)
  } catch (error) {
    if (!hadVhost) await runTool('modprobe', ['-r', 'vhost'], { package: 'kmod' })
    throw error
  }
}

async function insert(tool: string, args: string[], file: ModuleFile, options: Options): Promise<void> {
  const { exitCode, tail } = await runTool(tool, args, { ...options, package: 'kmod' })
  if (exitCode === 0) return
  const reason = tail.at(-1)?.trim() ?? `${tool} ended with ${exitCode}`
  throw new VblkError('MODULE_NOT_LOADED', ExitCode.HostLacks, `${file.path} was not loaded: ${reason}`, {
    hint: /Key was rejected|Required key/i.test(reason)
      ? 'this kernel takes only signed modules (Secure Boot): sign it with a key that the machine has enrolled'
      : 'the kernel says why: dmesg | tail',
    details: { output: tail },
  })
}

/** The module file that would be loaded. @throws VblkError HostLacks if there is none that fits the running kernel */
export async function requireModuleFile(buildDir: string | undefined): Promise<ModuleFile> {
  const file = await findModuleFile(buildDir)
  const kernel = release()
  if (!file) {
    const where = buildDir ?? `/lib/modules/${kernel} or ${moduleBuildDir()}`
    throw new VblkError('MODULE_ABSENT', ExitCode.HostLacks, `there is no ${MODULE_NAME} module in ${where}`, {
      hint: 'build it: vblk module build',
    })
  }
  if (file.matches && file.name === MODULE_NAME) return file
  if (file.matches) {
    throw new VblkError(
      'BAD_MODULE_FILE',
      ExitCode.HostLacks,
      `${file.path} is module ${file.name}, not ${MODULE_NAME}`,
      {
        hint: 'build it: vblk module build',
      },
    )
  }
  const message = `${file.path} was built for kernel ${file.kernel || '(none)'}, and this is ${kernel}`
  throw new VblkError('MODULE_FOR_OTHER_KERNEL', ExitCode.HostLacks, message, {
    hint: 'build it for this one: vblk module build',
    details: { builtFor: file.kernel, running: kernel },
  })
}

function requireModuleSupport(): void {
  if (kernelLoadsModules()) return
  throw new VblkError('KERNEL_WITHOUT_MODULES', ExitCode.HostLacks, `this kernel (${release()}) loads no modules`, {
    hint: 'boot a kernel of the distribution, or use vblk outside of this container',
  })
}
