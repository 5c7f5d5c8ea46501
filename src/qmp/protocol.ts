// SPDX-License-Identifier: GPL-2.0-or-later

import type { Json } from './json.ts'

/**
 * The commands and events in use, as QEMU 10.0's QAPI documents them (qapi/*.json), checked against that version's
 * replies. Fields that nothing reads are left out. An `int` of QAPI may exceed what a number holds: then it is a bigint.
 */
export type QapiInt = number | bigint

type None = Record<string, never>

export interface QmpVersion {
  qemu: { major: number; minor: number; micro: number }
  /** The distribution's package, or "". */
  package: string
}

/** RunState (run-state.json). */
export type RunState =
  | 'debug'
  | 'inmigrate'
  | 'internal-error'
  | 'io-error'
  | 'paused'
  | 'postmigrate'
  | 'prelaunch'
  | 'finish-migrate'
  | 'restore-vm'
  | 'running'
  | 'save-vm'
  | 'shutdown'
  | 'suspended'
  | 'watchdog'
  | 'guest-panicked'
  | 'colo'

export interface StatusInfo {
  running: boolean
  status: RunState
}

export interface ObjectPropertyInfo {
  name: string
  /** Like 'bool', 'child<virtio-blk-pci>', 'link<hotplug-handler>'. */
  type: string
  description?: string
  'default-value'?: Json
}

export interface ObjectTypeInfo {
  name: string
  abstract?: boolean
  parent?: string
}

export interface BlockdevCacheInfo {
  writeback: boolean
  direct: boolean
  'no-flush': boolean
}

export interface BlockDeviceInfo {
  file: string
  'node-name'?: string
  ro: boolean
  drv: string
  cache: BlockdevCacheInfo
  image: { filename: string; format: string; 'virtual-size': QapiInt }
  /** Limits of reads and writes together, per second; 0 for none. */
  bps?: QapiInt
  iops?: QapiInt
  /** Since 10.0: whether the node is active (not handed to a migration destination). */
  active?: boolean
}

export interface BlockInfo {
  device: string
  /** QOM path of the device that uses the backend. */
  qdev?: string
  inserted?: BlockDeviceInfo
}

/** BlockDeviceStats, the fields in use; times in nanoseconds. */
export interface BlockStats {
  qdev?: string
  stats: {
    rd_operations: QapiInt
    wr_operations: QapiInt
    flush_operations: QapiInt
    unmap_operations: QapiInt
    rd_bytes: QapiInt
    wr_bytes: QapiInt
    rd_total_time_ns: QapiInt
    wr_total_time_ns: QapiInt
    flush_total_time_ns: QapiInt
    failed_rd_operations: QapiInt
    failed_wr_operations: QapiInt
    failed_flush_operations: QapiInt
    failed_unmap_operations: QapiInt
  }
}

/** BlockdevOptions, for the drivers in use. */
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

/** BlockIOThrottle, the fields in use. All that are 0 lift the limits. */
export interface ThrottleOptions {
  /** Id or QOM path of the device that has the block backend. */
  id: string
  bps: number
  bps_rd: number
  bps_wr: number
  iops: number
  iops_rd: number
  iops_wr: number
}

/** FdsetInfo (misc.json), the fields in use: descriptors that QEMU opens by the name /dev/fdset/ID. */
export interface FdsetInfo {
  'fdset-id': QapiInt
  fds: { fd: QapiInt; opaque?: string }[]
}

/** YankInstance (yank.json). */
export type YankInstance =
  | { type: 'block-node'; 'node-name': string }
  | { type: 'chardev'; id: string }
  | { type: 'migration' }

export interface VirtioStatus {
  name: string
  /** The status field of virtio 1.3 section 2.1, each bit as "NAME: explanation". */
  status: { statuses: string[] }
  'vm-running': boolean
}

/** MigrationStatus (migration.json). */
export type MigrationStatus =
  | 'none'
  | 'setup'
  | 'cancelling'
  | 'cancelled'
  | 'active'
  | 'postcopy-active'
  | 'postcopy-paused'
  | 'postcopy-recover-setup'
  | 'postcopy-recover'
  | 'completed'
  | 'failed'
  | 'colo'
  | 'pre-switchover'
  | 'device'
  | 'wait-unplug'

export interface MigrationInfo {
  status?: MigrationStatus
  'error-desc'?: string
  'blocked-reasons'?: string[]
  /** Milliseconds since the migration began, or that it took. */
  'total-time'?: QapiInt
  /** Milliseconds that the guest stood still; present once the migration has completed. */
  downtime?: QapiInt
  /** Milliseconds expected while the migration runs. */
  'expected-downtime'?: QapiInt
  ram?: {
    transferred: QapiInt
    remaining: QapiInt
    total: QapiInt
    /** Throughput in 10^6 bits per second. */
    mbps?: number
    /** Pages per second; known after the first round over the memory. */
    'dirty-pages-rate'?: QapiInt
    /** Bytes. */
    'page-size'?: QapiInt
    /** Bytes that went through the channels of multifd. */
    'multifd-bytes'?: QapiInt
  }
}

export interface MigrationCapabilityStatus {
  capability: string
  state: boolean
}

export interface CommandMap {
  qmp_capabilities: { arguments: { enable?: 'oob'[] }; returns: None }
  'query-version': { arguments: None; returns: QmpVersion }
  'query-status': { arguments: None; returns: StatusInfo }
  'query-name': { arguments: None; returns: { name?: string } }
  'qom-list': { arguments: { path: string }; returns: ObjectPropertyInfo[] }
  'qom-get': { arguments: { path: string; property: string }; returns: Json }
  'qom-set': { arguments: { path: string; property: string; value: Json }; returns: None }
  'qom-list-types': { arguments: { implements?: string; abstract?: boolean }; returns: ObjectTypeInfo[] }
  'device-list-properties': { arguments: { typename: string }; returns: ObjectPropertyInfo[] }
  'query-block': { arguments: None; returns: BlockInfo[] }
  'query-blockstats': { arguments: None; returns: BlockStats[] }
  'query-named-block-nodes': { arguments: { flat?: boolean }; returns: BlockDeviceInfo[] }
  'blockdev-add': { arguments: BlockdevRawOptions; returns: None }
  block_resize: { arguments: { 'node-name': string; size: QapiInt }; returns: None }
  'blockdev-del': { arguments: { 'node-name': string }; returns: None }
  /** Since 10.0; without a node all nodes. */
  'blockdev-set-active': { arguments: { 'node-name'?: string; active: boolean }; returns: None }
  device_add: { arguments: DeviceAddOptions; returns: None }
  device_del: { arguments: { id: string }; returns: None }
  block_set_io_throttle: { arguments: ThrottleOptions; returns: None }
  /** Puts a descriptor that comes with it into a set, which is made if it isn't there. */
  'add-fd': {
    arguments: { 'fdset-id'?: number; opaque?: string }
    returns: { 'fdset-id': QapiInt; fd: QapiInt }
  }
  /** Without `fd` all of the set. What QEMU has open stays open. */
  'remove-fd': { arguments: { 'fdset-id': number; fd?: number }; returns: None }
  'query-fdsets': { arguments: None; returns: FdsetInfo[] }
  /** Which connections of QEMU can be cut; out of band as well. */
  'query-yank': { arguments: None; returns: YankInstance[] }
  /** Cuts connections that hang (a dead storage server, a migration), and what waits for them fails; out of band as well. */
  yank: { arguments: { instances: YankInstance[] }; returns: None }
  stop: { arguments: None; returns: None }
  cont: { arguments: None; returns: None }
  quit: { arguments: None; returns: None }
  system_reset: { arguments: None; returns: None }
  migrate: { arguments: { uri: string }; returns: None }
  /** Since 9.1 with `exit-on-error`: false keeps a QEMU whose load failed, so that it can be asked why. */
  'migrate-incoming': { arguments: { uri: string; 'exit-on-error'?: boolean }; returns: None }
  'migrate-continue': { arguments: { state: MigrationStatus }; returns: None }
  migrate_cancel: { arguments: None; returns: None }
  'query-migrate': { arguments: None; returns: MigrationInfo }
  'query-migrate-capabilities': { arguments: None; returns: MigrationCapabilityStatus[] }
  'migrate-set-capabilities': { arguments: { capabilities: MigrationCapabilityStatus[] }; returns: None }
  'query-migrate-parameters': { arguments: None; returns: { [parameter: string]: Json } }
  'migrate-set-parameters': { arguments: { [parameter: string]: Json }; returns: None }
  /** Unstable by name, and in every QEMU since 7.2. */
  'x-query-virtio-status': { arguments: { path: string }; returns: VirtioStatus }
}

export type CommandName = keyof CommandMap
/** The commands in use that QAPI marks `allow-oob`. */
export type OutOfBandCommandName = 'query-yank' | 'yank'
export type CommandArguments<C extends CommandName> = CommandMap[C]['arguments']
export type CommandReturns<C extends CommandName> = CommandMap[C]['returns']

export interface EventMap {
  /** A device is gone for good; `device` is its id, absent for a device without one (qdev.json). */
  DEVICE_DELETED: { device?: string; path: string }
  /** The guest refused an unplug. PCI guests have no way to (qdev.json). */
  DEVICE_UNPLUG_GUEST_ERROR: { device?: string; path: string }
  /** Needs the capability `events`. */
  MIGRATION: { status: MigrationStatus }
  STOP: None
  RESUME: None
  RESET: { guest: boolean; reason: string }
  SHUTDOWN: { guest: boolean; reason: string }
}

export type EventName = keyof EventMap

/** An event as it came. The timestamp is the host's clock; -1 in both fields if QEMU could not read it. */
export type QmpEvent = {
  [E in EventName]: { event: E; data: EventMap[E]; timestamp: { seconds: QapiInt; microseconds: QapiInt } }
}[EventName]
