// SPDX-License-Identifier: GPL-2.0-or-later
import { createHash } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

/** The project's folder. */
export const top = resolve(import.meta.dirname, '../../..')

/** The one ignored folder that holds everything downloaded or built. */
export const cache = join(top, '.cache')

/** The Debian root: L1's system, and the place where its QEMU, its compiler and its Node are run from. */
export const root = join(cache, 'root')

export const labFiles = join(cache, 'lab')

/**
 * Sockets and logs of running labs. Not below the project, whose path may exceed what a unix socket's address holds (108
 * bytes); one folder for each checkout, so that two don't meet.
 */
export const runDir = join(tmpdir(), `vblk-lab-${createHash('sha256').update(top).digest('hex').slice(0, 8)}`)
