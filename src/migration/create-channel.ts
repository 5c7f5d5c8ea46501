// SPDX-License-Identifier: GPL-2.0-or-later

import { findProcess, readFileOwner } from '../vm/qemu-process.ts'
import { Channel, type MigrationChannel } from './channel.ts'
import { hostOf } from './hosts/host-of.ts'
import type { Sides } from './options.ts'

/** Makes the channel of a migration, for the user that the destination's QEMU runs as if it is known: it makes the socket. */
export async function createChannel({ source, destination }: Sides): Promise<MigrationChannel> {
  const there = hostOf(destination)
  if (there !== undefined) return await (await import('./hosts/host-channel.ts')).HostChannel.create(source, there)
  const process = findProcess(destination)
  return await Channel.create('pid' in process ? ((await readFileOwner(process.pid)) ?? process) : undefined)
}
