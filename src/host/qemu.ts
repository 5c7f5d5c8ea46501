// SPDX-License-Identifier: GPL-2.0-or-later
import { realpath, stat } from 'node:fs/promises'
import { ExitCode, VblkError } from '../errors.ts'
import { ElfError, readBuildId } from './elf.ts'
import { findProgram } from './programs.ts'
import { runTool, type ToolOptions } from './run-tool.ts'

const PROGRAMS: Partial<Record<NodeJS.Architecture, { program: string; package: string }>> = {
  x64: { program: 'qemu-system-x86_64', package: 'qemu-system-x86' },
  arm64: { program: 'qemu-system-aarch64', package: 'qemu-system-arm' },
}

export interface QemuBinary {
  /** Without symbolic links. */
  path: string
  /** In hex: what a device object is built for. */
  buildId: string
}

/**
 * The QEMU that a name or path means, or the one for this machine in PATH.
 * @throws VblkError NotFound for a given one that isn't there, HostLacks if none is installed or it is no ELF program
 */
export async function findQemu(given?: string): Promise<QemuBinary> {
  const path = await realpath(given?.includes('/') ? await requireFile(given) : await searchPath(given))
  try {
    return { path, buildId: await readBuildId(path) }
  } catch (cause) {
    if (!(cause instanceof ElfError) && (cause as NodeJS.ErrnoException).code !== 'EACCES') throw cause
    throw new VblkError(
      'NOT_A_QEMU',
      ExitCode.HostLacks,
      `cannot tell which QEMU this is: ${(cause as Error).message}`,
      {
        hint: 'name the QEMU program itself, not a script that starts it',
        cause,
      },
    )
  }
}

async function requireFile(path: string): Promise<string> {
  const found = await stat(path).catch(() => undefined)
  if (found?.isFile()) return path
  throw new VblkError('NO_SUCH_QEMU', ExitCode.NotFound, `${path}: ${found ? 'not a file' : 'no such file'}`, {
    hint: 'give the path of a QEMU program, or nothing for the one in PATH',
  })
}

async function searchPath(given: string | undefined): Promise<string> {
  const known = PROGRAMS[process.arch]
  const name = given ?? known?.program ?? 'qemu-kvm'
  const found = await findProgram(name)
  if (found) return found
  if (given) return requireFile(given)
  throw new VblkError('NO_QEMU', ExitCode.HostLacks, `${name} is not in PATH`, {
    hint: `apt-get install ${known?.package ?? 'qemu-system'}`,
  })
}

/**
 * What the binary says of its version, like '10.0.13'.
 * @throws VblkError HostLacks if it doesn't run or doesn't say
 */
export async function qemuVersion(path: string, options: Pick<ToolOptions, 'signal' | 'timeoutMs'>): Promise<string> {
  const { stdout, tail } = await runTool(path, ['--version'], { ...options, package: 'qemu-system-x86' })
  const version = /^QEMU emulator version (\d+(?:\.\d+)+)/m.exec(stdout)?.[1]
  if (version) return version
  throw new VblkError(
    'QEMU_SILENT',
    ExitCode.HostLacks,
    `${path} --version does not tell a version: ${tail.at(-1) ?? 'no output'}`,
  )
}
