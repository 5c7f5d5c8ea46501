// SPDX-License-Identifier: GPL-2.0-or-later

import type { BlockdevRawOptions, DeviceAddOptions, ThrottleOptions } from '../qmp/index.ts'
import { vhostBlkPci } from '../vm/vm.ts'
import { type DescriptorSets, type Descriptors, setName } from './descriptors.ts'
import { fileNodeName, nodeName } from './names.ts'
import type { DiskSpec } from './spec.ts'

/** A QMP command as it goes to QEMU. */
export interface PlannedCommand {
  execute: string
  arguments: object
}

/** QEMU's words for our choices. */
export const vhostProperty = { kernel: 'on', userspace: 'off', auto: 'auto' } as const
export const writeCacheProperty = { writeback: 'on', writethrough: 'off', auto: 'auto' } as const

/** The arguments of blockdev-add: an explicit raw node, so that QEMU never guesses a format from what the guest wrote. */
export function blockdevAddArguments(spec: DiskSpec, sets?: DescriptorSets): BlockdevRawOptions {
  const direct = spec.cache === 'none'
  const common = {
    'read-only': spec.readOnly,
    discard: spec.readOnly ? 'ignore' : spec.discard,
    cache: { direct, 'no-flush': false },
  } as const
  return {
    driver: 'raw',
    'node-name': nodeName(spec.id),
    ...common,
    file: {
      driver: spec.source.driver,
      'node-name': fileNodeName(spec.id),
      filename: sets === undefined ? spec.source.file : setName(sets.image),
      // Linux AIO needs O_DIRECT.
      aio: direct ? 'native' : 'threads',
      locking: 'auto',
      // Without this QEMU may open a writable disk read-only and find out at the first write.
      'auto-read-only': false,
      ...common,
    },
  }
}

/** The arguments of device_add on a bus. */
export function deviceAddArguments(spec: DiskSpec, bus: string, sets?: DescriptorSets): DeviceAddOptions {
  const options: DeviceAddOptions = {
    driver: vhostBlkPci,
    id: spec.id,
    bus,
    drive: nodeName(spec.id),
    vhost: vhostProperty[spec.datapath],
    'write-cache': writeCacheProperty[spec.writeCache],
  }
  if (sets?.kernel !== undefined) options.vhostdev = setName(sets.kernel)
  if (spec.addr !== undefined) options.addr = spec.addr
  if (spec.serial !== undefined) options.serial = spec.serial
  if (spec.queues !== undefined) options['num-queues'] = spec.queues
  if (spec.iothread !== undefined) options.iothread = spec.iothread
  if (spec.discard === 'ignore') options.discard = false
  if (spec.logicalBlockSize !== undefined) options.logical_block_size = spec.logicalBlockSize
  // QEMU refuses a physical size, which is 512 unless given, below the logical one.
  const physical = spec.physicalBlockSize ?? spec.logicalBlockSize
  if (physical !== undefined) options.physical_block_size = physical
  return options
}

/** The arguments of block_set_io_throttle; undefined for a disk without limits. */
export function throttleArguments({ id, bandwidth, iops }: DiskSpec): ThrottleOptions | undefined {
  if (bandwidth === undefined && iops === undefined) return undefined
  // The PCI device has no block backend itself: its child, the virtio device, has it.
  return {
    id: `/machine/peripheral/${id}/virtio-backend`,
    bps: bandwidth ?? 0,
    bps_rd: 0,
    bps_wr: 0,
    iops: iops ?? 0,
    iops_rd: 0,
    iops_wr: 0,
  }
}

/** All that an attach sends, in order. */
export function attachCommands(spec: DiskSpec, bus: string, descriptors?: Descriptors): PlannedCommand[] {
  const throttle = throttleArguments(spec)
  const sets = descriptors?.sets
  return [
    ...(descriptors?.commands ?? []).map((command) => ({ execute: 'add-fd', arguments: command.arguments })),
    { execute: 'blockdev-add', arguments: blockdevAddArguments(spec, sets) },
    { execute: 'device_add', arguments: deviceAddArguments(spec, bus, sets) },
    ...(throttle === undefined ? [] : [{ execute: 'block_set_io_throttle', arguments: throttle }]),
  ]
}

/** What undoes it, in order. */
export function removalCommands(
  id: string,
  present: { device: boolean; node: boolean; sets: readonly number[] },
): PlannedCommand[] {
  const commands: PlannedCommand[] = []
  if (present.device) commands.push({ execute: 'device_del', arguments: { id } })
  if (present.node) commands.push({ execute: 'blockdev-del', arguments: { 'node-name': nodeName(id) } })
  for (const set of present.sets) commands.push({ execute: 'remove-fd', arguments: { 'fdset-id': set } })
  return commands
}
