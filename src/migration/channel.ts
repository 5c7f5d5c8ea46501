// SPDX-License-Identifier: GPL-2.0-or-later

import { chown, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { ExitCode, VblkError } from '../errors.ts'

const socketName = 'migrate.sock'
const prefix = 'vblk-'

/** The URI of a channel that isn't made yet, to show. */
export const exampleUri = `unix:${path.join(tmpdir(), `${prefix}XXXXXX`, socketName)}`

/** Whether a folder has the name that create gives one. */
export const isChannelDir = (dir: string): boolean => path.isAbsolute(dir) && /^vblk-\w{6}$/.test(path.basename(dir))

/** Where a migration's stream goes through. */
export interface MigrationChannel {
  /** A folder of the source's host. */
  readonly dir: string
  /** Where the source's QEMU connects to. */
  readonly uri: string
  /** Where the destination's QEMU listens. */
  readonly listenUri: string
  remove(): Promise<void>
}

/** A unix socket for one migration stream, in a folder that only its QEMU can enter: the stream is all of a guest's memory. */
export class Channel implements MigrationChannel {
  readonly #dir: string

  private constructor(dir: string) {
    this.#dir = dir
  }

  /** Makes the folder, for the user that the QEMU runs as if that is another than ours. Throws VblkError (exit code 4). */
  static async create(owner: { uid: number; gid: number } | undefined, parent = tmpdir()): Promise<Channel> {
    const dir = await mkdtemp(path.join(parent, prefix)).catch((cause) => {
      throw new VblkError(
        'NO_TEMPORARY_FOLDER',
        ExitCode.HostLacks,
        `no folder for the migration's socket: ${cause.message}`,
        {
          hint: 'set TMPDIR to a folder that vblk and both QEMUs can use',
          cause,
        },
      )
    })
    if (owner !== undefined && process.getuid?.() === 0) await chown(dir, owner.uid, owner.gid)
    return new Channel(dir)
  }

  get dir(): string {
    return this.#dir
  }

  get uri(): string {
    return `unix:${path.join(this.#dir, socketName)}`
  }

  get listenUri(): string {
    return this.uri
  }

  /** Removes the folder and the socket that QEMU has left in it. */
  async remove(): Promise<void> {
    await rm(this.#dir, { recursive: true, force: true })
  }
}
