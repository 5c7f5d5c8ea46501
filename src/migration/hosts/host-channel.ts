// SPDX-License-Identifier: GPL-2.0-or-later

import { chown } from 'node:fs/promises'
import path from 'node:path'
import { findProcess, readFileOwner } from '../../vm/qemu-process.ts'
import type { Forwarding } from '../../vm/ssh.ts'
import type { Vm } from '../../vm/vm.ts'
import { Channel, type MigrationChannel } from '../channel.ts'
import type { ThereVm } from './host-of.ts'

/**
 * A migration's stream to another host: the destination's QEMU listens on a socket there, the source's connects to one here,
 * and an ssh of its own carries what goes through, so that no question of ours waits behind a guest's memory.
 */
export class HostChannel implements MigrationChannel {
  readonly #here: Channel
  readonly #forwarding: Forwarding
  readonly listenUri: string

  private constructor(here: Channel, forwarding: Forwarding, there: string) {
    this.#here = here
    this.#forwarding = forwarding
    this.listenUri = `unix:${there}`
  }

  /** Throws VblkError: exit codes 3 and 4. */
  static async create(source: Vm, { host }: ThereVm): Promise<HostChannel> {
    const { path: there } = await host.ask('channel', {})
    const process_ = findProcess(source)
    const owner = 'pid' in process_ ? ((await readFileOwner(process_.pid)) ?? process_) : undefined
    const here = await Channel.create(owner)
    try {
      const socket = here.uri.replace(/^unix:/, '')
      const forwarding = await host.forward(there, path.resolve(socket))
      // ssh has made it for us alone.
      if (owner !== undefined && process.getuid?.() === 0) await chown(socket, owner.uid, owner.gid)
      return new HostChannel(here, forwarding, there)
    } catch (error) {
      await here.remove()
      throw error
    }
  }

  get dir(): string {
    return this.#here.dir
  }

  get uri(): string {
    return this.#here.uri
  }

  /** Ends the ssh and removes what is here; the other host's folder goes when the connection to its vblk ends. */
  async remove(): Promise<void> {
    this.#forwarding.close()
    await this.#here.remove()
  }
}
