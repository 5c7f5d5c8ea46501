// SPDX-License-Identifier: GPL-2.0-or-later
import { join } from 'node:path'
import { ExitCode, VblkError } from '../errors.ts'
import { requireModuleFile } from './module-load.ts'
import { packageRoot } from './paths.ts'
import { requireRoot } from './root.ts'
import { runTool, type ToolOptions } from './run-tool.ts'

export interface SignResult {
  path: string
  /** False if it was signed already. */
  changed: boolean
  /** As the module says now; null in a dry run of an unsigned one. */
  signer: string | null
  /** What was run, or would be. */
  command: string[]
  dryRun: boolean
}

export interface SignOptions extends Pick<ToolOptions, 'signal' | 'timeoutMs' | 'onLine'> {
  keyDir: string
  dryRun: boolean
}

/**
 * Signs a built module for kernels that load only what is signed (Secure Boot), with a key that is made at the first time.
 * @throws VblkError HostLacks without a module, without the kernel's headers, or for a packed module
 */
export async function signModule(buildDir: string | undefined, options: SignOptions): Promise<SignResult> {
  const { path } = await requireModuleFile(buildDir)
  const { keyDir, dryRun, ...tool } = options
  const command = [join(packageRoot, 'kmod/sign'), path, keyDir]
  const before = await readSigner(path, tool)
  if (before !== '') return { path, changed: false, signer: before, command: [], dryRun }
  if (!path.endsWith('.ko')) {
    throw new VblkError(
      'MODULE_PACKED',
      ExitCode.HostLacks,
      `${path} is packed: a signature goes into the file itself`,
      {
        hint: 'DKMS signs what it builds, with /var/lib/dkms/mok.pub; or build and sign one: vblk module build',
      },
    )
  }
  if (dryRun) return { path, changed: false, signer: null, command, dryRun }
  requireRoot('sign')
  const [script = '', ...args] = command
  const { exitCode, tail } = await runTool(script, args, { ...tool, package: 'kmod' })
  if (exitCode !== 0) {
    const said = tail.findLast((line) => line.startsWith('sign: '))?.slice('sign: '.length)
    throw new VblkError('MODULE_NOT_SIGNED', ExitCode.HostLacks, `${path} was not signed: ${said ?? tail.at(-1)}`, {
      details: { output: tail, exitCode },
    })
  }
  return { path, changed: true, signer: await readSigner(path, tool), command, dryRun }
}

/** Who has signed a module file; '' for an unsigned one. */
export async function readSigner(path: string, options: Pick<ToolOptions, 'signal' | 'timeoutMs'>): Promise<string> {
  const { stdout } = await runTool('modinfo', ['-F', 'signer', path], { ...options, package: 'kmod' })
  return stdout.trim()
}
