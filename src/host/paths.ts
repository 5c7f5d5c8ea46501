// SPDX-License-Identifier: GPL-2.0-or-later
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** The package's folder, whether this file runs from src, from dist or from the bundle. */
export const packageRoot = findPackage(import.meta.dirname)

/** Where a checkout keeps what it builds. */
export const cacheDir = join(packageRoot, '.cache')

/** Where an installed vblk keeps what it builds on this host. */
const stateDir = '/var/lib/vblk'

/** The folder for what is built on this host: beside the sources in a checkout, in /var/lib/vblk when installed. */
export function buildRoot(): string {
  return existsSync(join(packageRoot, '.git')) ? cacheDir : stateDir
}

function findPackage(dir: string): string {
  return existsSync(join(dir, 'package.json')) ? dir : findPackage(dirname(dir))
}
