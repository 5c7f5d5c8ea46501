// SPDX-License-Identifier: GPL-2.0-or-later
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { availableParallelism, release } from 'node:os'
import { join } from 'node:path'
import { ExitCode, VblkError } from '../errors.ts'
import { findModuleFile, MODULE_NAME, type ModuleFile } from './module-file.ts'
import { packageRoot } from './paths.ts'
import { runTool, type ToolOptions } from './run-tool.ts'

/** The module's source, or undefined if this installation has none. */
export function moduleSourceDir(): string | undefined {
  const dir = join(packageRoot, 'kmod')
  return existsSync(join(dir, 'Makefile')) ? dir : undefined
}

/** The headers that modules for a kernel are built with. */
export function kernelHeadersDir(kernel: string): string {
  return join('/lib/modules', kernel, 'build')
}

/** What is missing if a kernel's headers aren't there. */
export function missingHeaders(kernel: string): VblkError | undefined {
  const dir = kernelHeadersDir(kernel)
  if (existsSync(join(dir, 'Makefile'))) return undefined
  return new VblkError(
    'NO_KERNEL_HEADERS',
    ExitCode.HostLacks,
    `the headers of kernel ${kernel} are missing (${dir})`,
    {
      hint: `apt-get install linux-headers-${kernel}`,
    },
  )
}

/**
 * The command that builds the module for the running kernel, out of tree.
 * @param dir - where the products go
 * @throws VblkError HostLacks without the source or the kernel's headers
 */
export function moduleBuildCommand(dir: string): string[] {
  const kernel = release()
  const source = moduleSourceDir()
  if (!source) {
    throw new VblkError(
      'NO_MODULE_SOURCE',
      ExitCode.HostLacks,
      `this installation lacks the module's source (${join(packageRoot, 'kmod')})`,
    )
  }
  const missing = missingHeaders(kernel)
  if (missing) throw missing
  return ['make', '-C', source, `-j${availableParallelism()}`, `KVER=${kernel}`, `O=${dir}`]
}

/**
 * Builds it.
 * @throws VblkError HostLacks; a failed build has its last lines in details.output
 */
export async function buildModule(dir: string, options: Omit<ToolOptions, 'package'>): Promise<ModuleFile> {
  const command = moduleBuildCommand(dir)
  await makeFolder(dir)
  const [make = '', ...args] = command
  const { exitCode, tail } = await runTool(make, args, { ...options, package: 'make gcc' })
  const built = exitCode === 0 ? await findModuleFile(dir) : undefined
  if (built) return built
  const reason =
    tail.findLast((line) => /error|not found|missing|No such file/i.test(line)) ?? `make ended with ${exitCode}`
  throw new VblkError(
    'MODULE_BUILD_FAILED',
    ExitCode.HostLacks,
    `${MODULE_NAME} does not build for kernel ${release()}: ${reason.trim()}`,
    {
      hint: `repeat it by hand: ${command.join(' ')}`,
      details: { output: tail, exitCode },
    },
  )
}

async function makeFolder(dir: string): Promise<void> {
  try {
    await mkdir(dir, { recursive: true })
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    throw new VblkError('BAD_BUILD_DIR', ExitCode.HostLacks, `cannot write to ${dir}: ${code}`, {
      hint: 'run as root, or give another folder with --build-dir',
      cause,
    })
  }
}
