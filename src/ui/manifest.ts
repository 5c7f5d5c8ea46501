// SPDX-License-Identifier: GPL-2.0-or-later

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ExitCode, VblkError } from '../errors.ts'
import { packageRoot } from '../host/paths.ts'
import type { CompletedCommand } from './completion.ts'

interface Manifest {
  commands: Record<string, ManifestCommand>
}

interface ManifestCommand {
  id: string
  summary?: string
  description?: string
  args: Record<string, { name: string; options?: string[] }>
  flags: Record<string, { name: string; char?: string; description?: string; type: string; options?: string[] }>
}

/** All commands with their flags, as the build has listed them. Throws VblkError (exit code 4) in a checkout without a build. */
export function readCommands(): CompletedCommand[] {
  const file = join(packageRoot, 'oclif.manifest.json')
  let manifest: Manifest
  try {
    manifest = JSON.parse(readFileSync(file, 'utf8'))
  } catch (cause) {
    throw new VblkError('NO_MANIFEST', ExitCode.HostLacks, `${file} can't be read: ${(cause as Error).message}`, {
      hint: 'in a checkout: npm run build',
      cause,
    })
  }
  return Object.values(manifest.commands).map(({ id, summary, description, args, flags }) => ({
    name: id.replaceAll(':', ' '),
    summary: summary ?? description?.split('\n')[0] ?? '',
    args: Object.values(args).map(({ name, options = [] }) => ({ name, options })),
    flags: Object.values(flags).map(({ name, char, description: about = '', type, options = [] }) => ({
      name,
      char: char ?? null,
      summary: about,
      takesValue: type === 'option',
      options,
    })),
  }))
}
