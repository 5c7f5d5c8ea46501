// SPDX-License-Identifier: GPL-2.0-or-later

import type { Json, QapiInt } from './json.ts'
import type { SchemaCommands, SchemaEvents, SchemaOutOfBand } from './schema.ts'

export type { QapiInt } from './json.ts'

/**
 * The commands in use, as QEMU 10.0's own schema has them (schema.ts), but for those that take or tell any property. Older QEMUs
 * lack `blockdev-set-active` and a node's `active` (10.0), and migrate-incoming's `exit-on-error` (9.1), whose false keeps a QEMU whose
 * load failed, so that it can be asked why. `x-query-virtio-status` is unstable by name, and in every QEMU since 7.2.
 */
export interface CommandMap extends Omit<SchemaCommands, OpenCommand> {
  device_add: { arguments: DeviceAddOptions; returns: Record<string, never> }
  'query-migrate-parameters': { arguments: Record<string, never>; returns: { [parameter: string]: Json } }
  'migrate-set-parameters': { arguments: { [parameter: string]: Json }; returns: Record<string, never> }
}

type OpenCommand = 'device_add' | 'query-migrate-parameters' | 'migrate-set-parameters'

export type CommandName = keyof CommandMap
/** The commands in use that QAPI marks `allow-oob`. */
export type OutOfBandCommandName = SchemaOutOfBand
export type CommandArguments<C extends CommandName> = CommandMap[C]['arguments']
export type CommandReturns<C extends CommandName> = CommandMap[C]['returns']

/**
 * The events in use. DEVICE_DELETED: a device is gone for good; `device` is its id, absent for one without.
 * DEVICE_UNPLUG_GUEST_ERROR: the guest refused an unplug, which PCI guests have no way to. MIGRATION needs the capability `events`.
 */
export type EventMap = SchemaEvents
export type EventName = keyof EventMap

/** An event as it came. The timestamp is the host's clock; -1 in both fields if QEMU could not read it. */
export type QmpEvent = {
  [E in EventName]: { event: E; data: EventMap[E]; timestamp: { seconds: QapiInt; microseconds: QapiInt } }
}[EventName]

export type QmpVersion = CommandReturns<'query-version'>
export type StatusInfo = CommandReturns<'query-status'>
export type RunState = StatusInfo['status']
/** Its type is like 'bool', 'child<virtio-blk-pci>', 'link<hotplug-handler>'. */
export type ObjectPropertyInfo = CommandReturns<'qom-list'>[number]
export type ObjectTypeInfo = CommandReturns<'qom-list-types'>[number]
export type BlockInfo = CommandReturns<'query-block'>[number]
export type BlockDeviceInfo = CommandReturns<'query-named-block-nodes'>[number]
/** Times in nanoseconds. */
export type BlockStats = CommandReturns<'query-blockstats'>[number]
/** All that are 0 lift the limits. */
export type ThrottleOptions = CommandArguments<'block_set_io_throttle'>
/** Descriptors that QEMU opens by the name /dev/fdset/ID. */
export type FdsetInfo = CommandReturns<'query-fdsets'>[number]
export type YankInstance = CommandReturns<'query-yank'>[number]
/** `status.statuses`: each bit of the status field (virtio 1.3, 2.1) as "NAME: explanation". */
export type VirtioStatus = CommandReturns<'x-query-virtio-status'>
/** Times in milliseconds; `mbps` in 10^6 bits per second. */
export type MigrationInfo = CommandReturns<'query-migrate'>
export type MigrationStatus = NonNullable<MigrationInfo['status']>
export type MigrationCapabilityStatus = CommandReturns<'query-migrate-capabilities'>[number]
export type MigrationCapability = MigrationCapabilityStatus['capability']

/** What blockdev-add takes for the drivers in use: more exactly than the schema, which leaves most of it out at will. */
export interface BlockdevFileOptions {
  driver: 'file' | 'host_device'
  'node-name'?: string
  filename: string
  aio?: 'threads' | 'native' | 'io_uring'
  locking?: 'auto' | 'on' | 'off'
  discard?: 'ignore' | 'unmap'
  'read-only'?: boolean
  'auto-read-only'?: boolean
  cache?: { direct?: boolean; 'no-flush'?: boolean }
}

export interface BlockdevRawOptions {
  driver: 'raw'
  'node-name': string
  'read-only'?: boolean
  discard?: 'ignore' | 'unmap'
  cache?: { direct?: boolean; 'no-flush'?: boolean }
  file: BlockdevFileOptions
  offset?: QapiInt
  size?: QapiInt
}

/** `driver` and what qdev adds; every other key is a property of the driver. */
export interface DeviceAddOptions {
  driver: string
  id?: string
  bus?: string
  [property: string]: Json | undefined
}
