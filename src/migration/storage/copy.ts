// SPDX-License-Identifier: GPL-2.0-or-later
// How the two QEMUs copy a disk's storage: the source mirrors it into an NBD export of the destination's disk.

import path from 'node:path'
import { command, type SideCommand } from '../commands.ts'

/** A disk's storage that goes along: the destination's disk is on another image. */
export interface StorageCopy {
  /** The destination's image. */
  file: string
  /** The node that the destination's disk is on. */
  node: string
}

/** A disk of a plan, as far as its storage matters. */
export interface CopiedDisk {
  name: string
  copy: StorageCopy
  /** In the plan: by it both QEMUs name what serves the copy. */
  index: number
}

/** Those disks of a plan, or of what a journal keeps of it, whose storage goes along. */
export function copiedDisks<D extends { name: string; copy?: StorageCopy | undefined }>(
  disks: readonly D[],
): (D & CopiedDisk)[] {
  return disks.flatMap((disk, index) => (disk.copy === undefined ? [] : [{ ...disk, copy: disk.copy, index }]))
}

/** The name of a copy's job, of the source's node that it writes to, and of the destination's export. */
export const copyName = ({ index }: Pick<CopiedDisk, 'index'>): string => `vblk-copy-${index}`

/** The destination's NBD socket, in the folder of the migration's channel. */
export const nbdSocket = (channel: string): string => path.join(channel, 'nbd.sock')

/** What makes the destination take the disks' contents: an export makes its node active. */
export function serveCommands(disks: readonly CopiedDisk[], socket: string): SideCommand[] {
  if (disks.length === 0) return []
  return [
    command('destination', 'nbd-server-start', { addr: { type: 'unix', data: { path: socket } } }),
    ...disks.map((disk) =>
      command('destination', 'block-export-add', {
        type: 'nbd',
        id: copyName(disk),
        name: copyName(disk),
        'node-name': disk.copy.node,
        writable: true,
      }),
    ),
  ]
}

/** A disk of the source that is copied. */
export interface MirroredDisk extends CopiedDisk {
  source: { node: string | null }
}

/**
 * What makes the source copy a disk, and every write of the guest with it before it is acknowledged: the copy can't fall behind.
 *
 * @param speed - of what the guest doesn't write itself, in bytes per second; 0 is unlimited
 */
export function mirrorCommands(disk: MirroredDisk, socket: string, speed: number): SideCommand[] {
  const name = copyName(disk)
  return [
    command('source', 'blockdev-add', {
      driver: 'nbd',
      'node-name': name,
      server: { type: 'unix', path: socket },
      export: name,
      // A discard goes along too, where the destination's disk takes it.
      discard: 'unmap',
    }),
    command('source', 'blockdev-mirror', {
      'job-id': name,
      device: disk.source.node ?? '',
      target: name,
      sync: 'full',
      'copy-mode': 'write-blocking',
      speed,
      'filter-node-name': `vblk-mirror-${disk.index}`,
      // How it ended is asked afterwards.
      'auto-dismiss': false,
    }),
  ]
}

/** Ends a job that is ready: both sides are the same then, and flushed (qapi/block-core.json, block-job-cancel). */
export const endCommand = (disk: CopiedDisk): SideCommand =>
  command('source', 'block-job-cancel', { device: copyName(disk), force: false })

/** What removes a copy whose job has ended from the source. */
export function leaveCommands(disk: CopiedDisk): SideCommand[] {
  return [
    command('source', 'job-dismiss', { id: copyName(disk) }),
    command('source', 'blockdev-del', { 'node-name': copyName(disk) }),
  ]
}

/** What ends the server and its exports; the nodes are inactive again, as those of a QEMU that waits for a VM are. */
export function closeCommands(disks: readonly CopiedDisk[]): SideCommand[] {
  if (disks.length === 0) return []
  return [
    command('destination', 'nbd-server-stop', {}),
    ...disks.map(({ copy: { node } }) =>
      command('destination', 'blockdev-set-active', { 'node-name': node, active: false }),
    ),
  ]
}

/** Each disk's part of the bandwidth that the user allows. */
export function speedOf(bandwidth: number | undefined, disks: number): number {
  return bandwidth === undefined ? 0 : Math.max(1, Math.floor(bandwidth / disks))
}
