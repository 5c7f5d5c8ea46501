// SPDX-License-Identifier: GPL-2.0-or-later
// Made by script/qapi.ts from QEMU's query-qmp-schema: don't edit. QEMU doesn't name the types.

import type { Json, QapiInt } from './json.ts'

type T1 = { enable?: 'oob'[] }
type T2 = Record<string, never>
type T3 = { qemu: T4; package: string }
type T4 = { major: QapiInt; minor: QapiInt; micro: QapiInt }
type T5 = {
  running: boolean
  status:
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
}
type T6 = { name?: string }
type T7 = { path: string }
type T8 = { name: string; type: string; description?: string; 'default-value'?: Json }
type T9 = { path: string; property: string }
type T10 = { path: string; property: string; value: Json }
type T11 = { implements?: string; abstract?: boolean }
type T12 = { name: string; abstract?: boolean; parent?: string }
type T13 = { typename: string }
type T14 = {
  device: string
  qdev?: string
  type: string
  removable: boolean
  locked: boolean
  inserted?: T15
  tray_open?: boolean
  'io-status'?: 'ok' | 'failed' | 'nospace'
}
type T15 = {
  file: string
  'node-name'?: string
  ro: boolean
  drv: string
  backing_file?: string
  backing_file_depth: QapiInt
  active: boolean
  encrypted: boolean
  detect_zeroes: 'off' | 'on' | 'unmap'
  bps: QapiInt
  bps_rd: QapiInt
  bps_wr: QapiInt
  iops: QapiInt
  iops_rd: QapiInt
  iops_wr: QapiInt
  image: T16
  bps_max?: QapiInt
  bps_rd_max?: QapiInt
  bps_wr_max?: QapiInt
  iops_max?: QapiInt
  iops_rd_max?: QapiInt
  iops_wr_max?: QapiInt
  bps_max_length?: QapiInt
  bps_rd_max_length?: QapiInt
  bps_wr_max_length?: QapiInt
  iops_max_length?: QapiInt
  iops_rd_max_length?: QapiInt
  iops_wr_max_length?: QapiInt
  iops_size?: QapiInt
  group?: string
  cache: T33
  write_threshold: QapiInt
  'dirty-bitmaps'?: T34[]
}
type T16 = {
  filename: string
  format: string
  'dirty-flag'?: boolean
  'actual-size'?: QapiInt
  'virtual-size': QapiInt
  'cluster-size'?: QapiInt
  encrypted?: boolean
  compressed?: boolean
  'backing-filename'?: string
  'full-backing-filename'?: string
  'backing-filename-format'?: string
  snapshots?: T17[]
  'format-specific'?: T18
  'backing-image'?: T16
}
type T17 = {
  id: string
  name: string
  'vm-state-size': QapiInt
  'date-sec': QapiInt
  'date-nsec': QapiInt
  'vm-clock-sec': QapiInt
  'vm-clock-nsec': QapiInt
  icount?: QapiInt
}
type T18 =
  | ({ type: 'qcow2' } & T19)
  | ({ type: 'vmdk' } & T25)
  | ({ type: 'luks' } & T28)
  | ({ type: 'rbd' } & T29)
  | ({ type: 'file' } & T31)
type T19 = { data: T20 }
type T20 = {
  compat: string
  'data-file'?: string
  'data-file-raw'?: boolean
  'extended-l2'?: boolean
  'lazy-refcounts'?: boolean
  corrupt?: boolean
  'refcount-bits': QapiInt
  encrypt?: T21
  bitmaps?: T24[]
  'compression-type': 'zlib' | 'zstd'
}
type T21 = ({ format: 'luks' } & T22) | { format: 'aes' }
type T22 = {
  'cipher-alg':
    | 'aes-128'
    | 'aes-192'
    | 'aes-256'
    | 'des'
    | '3des'
    | 'cast5-128'
    | 'serpent-128'
    | 'serpent-192'
    | 'serpent-256'
    | 'twofish-128'
    | 'twofish-192'
    | 'twofish-256'
    | 'sm4'
  'cipher-mode': 'ecb' | 'cbc' | 'xts' | 'ctr'
  'ivgen-alg': 'plain' | 'plain64' | 'essiv'
  'ivgen-hash-alg'?: 'md5' | 'sha1' | 'sha224' | 'sha256' | 'sha384' | 'sha512' | 'ripemd160' | 'sm3'
  'hash-alg': 'md5' | 'sha1' | 'sha224' | 'sha256' | 'sha384' | 'sha512' | 'ripemd160' | 'sm3'
  'detached-header': boolean
  'payload-offset': QapiInt
  'master-key-iters': QapiInt
  uuid: string
  slots: T23[]
}
type T23 = { active: boolean; iters?: QapiInt; stripes?: QapiInt; 'key-offset': QapiInt }
type T24 = { name: string; granularity: QapiInt; flags: ('in-use' | 'auto')[] }
type T25 = { data: T26 }
type T26 = { 'create-type': string; cid: QapiInt; 'parent-cid': QapiInt; extents: T27[] }
type T27 = { filename: string; format: string; 'virtual-size': QapiInt; 'cluster-size'?: QapiInt; compressed?: boolean }
type T28 = { data: T22 }
type T29 = { data: T30 }
type T30 = { 'encryption-format'?: 'luks' | 'luks2' | 'luks-any' }
type T31 = { data: T32 }
type T32 = { 'extent-size-hint'?: QapiInt }
type T33 = { writeback: boolean; direct: boolean; 'no-flush': boolean }
type T34 = {
  name?: string
  count: QapiInt
  granularity: QapiInt
  recording: boolean
  busy: boolean
  persistent: boolean
  inconsistent?: boolean
}
type T35 = { 'query-nodes'?: boolean }
type T36 = {
  device?: string
  qdev?: string
  'node-name'?: string
  stats: T37
  'driver-specific'?: T40
  parent?: T36
  backing?: T36
}
type T37 = {
  rd_bytes: QapiInt
  wr_bytes: QapiInt
  zone_append_bytes: QapiInt
  unmap_bytes: QapiInt
  rd_operations: QapiInt
  wr_operations: QapiInt
  zone_append_operations: QapiInt
  flush_operations: QapiInt
  unmap_operations: QapiInt
  rd_total_time_ns: QapiInt
  wr_total_time_ns: QapiInt
  zone_append_total_time_ns: QapiInt
  flush_total_time_ns: QapiInt
  unmap_total_time_ns: QapiInt
  wr_highest_offset: QapiInt
  rd_merged: QapiInt
  wr_merged: QapiInt
  zone_append_merged: QapiInt
  unmap_merged: QapiInt
  idle_time_ns?: QapiInt
  failed_rd_operations: QapiInt
  failed_wr_operations: QapiInt
  failed_zone_append_operations: QapiInt
  failed_flush_operations: QapiInt
  failed_unmap_operations: QapiInt
  invalid_rd_operations: QapiInt
  invalid_wr_operations: QapiInt
  invalid_zone_append_operations: QapiInt
  invalid_flush_operations: QapiInt
  invalid_unmap_operations: QapiInt
  account_invalid: boolean
  account_failed: boolean
  timed_stats: T38[]
  rd_latency_histogram?: T39
  wr_latency_histogram?: T39
  zone_append_latency_histogram?: T39
  flush_latency_histogram?: T39
}
type T38 = {
  interval_length: QapiInt
  min_rd_latency_ns: QapiInt
  max_rd_latency_ns: QapiInt
  avg_rd_latency_ns: QapiInt
  min_wr_latency_ns: QapiInt
  max_wr_latency_ns: QapiInt
  avg_wr_latency_ns: QapiInt
  min_zone_append_latency_ns: QapiInt
  max_zone_append_latency_ns: QapiInt
  avg_zone_append_latency_ns: QapiInt
  min_flush_latency_ns: QapiInt
  max_flush_latency_ns: QapiInt
  avg_flush_latency_ns: QapiInt
  avg_rd_queue_depth: number
  avg_wr_queue_depth: number
  avg_zone_append_queue_depth: number
}
type T39 = { boundaries: QapiInt[]; bins: QapiInt[] }
type T40 = ({ driver: 'file' } & T41) | ({ driver: 'host_device' } & T41) | { driver: 'raw' }
type T41 = { 'discard-nb-ok': QapiInt; 'discard-nb-failed': QapiInt; 'discard-bytes-ok': QapiInt }
type T42 = { flat?: boolean }
type T43 =
  | ({
      driver: 'file'
      'node-name'?: string
      discard?: 'ignore' | 'unmap'
      cache?: T44
      active?: boolean
      'read-only'?: boolean
      'auto-read-only'?: boolean
      'force-share'?: boolean
      'detect-zeroes'?: 'off' | 'on' | 'unmap'
    } & T45)
  | ({
      driver: 'host_device'
      'node-name'?: string
      discard?: 'ignore' | 'unmap'
      cache?: T44
      active?: boolean
      'read-only'?: boolean
      'auto-read-only'?: boolean
      'force-share'?: boolean
      'detect-zeroes'?: 'off' | 'on' | 'unmap'
    } & T45)
  | ({
      driver: 'raw'
      'node-name'?: string
      discard?: 'ignore' | 'unmap'
      cache?: T44
      active?: boolean
      'read-only'?: boolean
      'auto-read-only'?: boolean
      'force-share'?: boolean
      'detect-zeroes'?: 'off' | 'on' | 'unmap'
    } & T46)
type T44 = { direct?: boolean; 'no-flush'?: boolean }
type T45 = {
  filename: string
  'pr-manager'?: string
  locking?: 'auto' | 'on' | 'off'
  aio?: 'threads' | 'native' | 'io_uring'
  'aio-max-batch'?: QapiInt
  'drop-cache'?: boolean
  'x-check-cache-dropped'?: boolean
}
type T46 = { file: T43 | string; offset?: QapiInt; size?: QapiInt }
type T47 = { device?: string; 'node-name'?: string; size: QapiInt }
type T48 = { 'node-name': string }
type T49 = { 'node-name'?: string; active: boolean }
type T50 = { driver: string; bus?: string; id?: string }
type T51 = { id: string }
type T52 = {
  device?: string
  id?: string
  bps: QapiInt
  bps_rd: QapiInt
  bps_wr: QapiInt
  iops: QapiInt
  iops_rd: QapiInt
  iops_wr: QapiInt
  bps_max?: QapiInt
  bps_rd_max?: QapiInt
  bps_wr_max?: QapiInt
  iops_max?: QapiInt
  iops_rd_max?: QapiInt
  iops_wr_max?: QapiInt
  bps_max_length?: QapiInt
  bps_rd_max_length?: QapiInt
  bps_wr_max_length?: QapiInt
  iops_max_length?: QapiInt
  iops_rd_max_length?: QapiInt
  iops_wr_max_length?: QapiInt
  iops_size?: QapiInt
  group?: string
}
type T53 = { 'fdset-id'?: QapiInt; opaque?: string }
type T54 = { 'fdset-id': QapiInt; fd: QapiInt }
type T55 = { 'fdset-id': QapiInt; fd?: QapiInt }
type T56 = { 'fdset-id': QapiInt; fds: T57[] }
type T57 = { fd: QapiInt; opaque?: string }
type T58 = ({ type: 'block-node' } & T59) | ({ type: 'chardev' } & T60) | { type: 'migration' }
type T59 = { 'node-name': string }
type T60 = { id: string }
type T61 = { instances: T58[] }
type T62 = { uri?: string; channels?: T63[]; detach?: boolean; resume?: boolean }
type T63 = { 'channel-type': 'main' | 'cpr'; addr: T64 }
type T64 =
  | ({ transport: 'socket' } & T65)
  | ({ transport: 'exec' } & T70)
  | ({ transport: 'rdma' } & T66)
  | ({ transport: 'file' } & T71)
type T65 = ({ type: 'inet' } & T66) | ({ type: 'unix' } & T67) | ({ type: 'vsock' } & T68) | ({ type: 'fd' } & T69)
type T66 = {
  host: string
  port: string
  numeric?: boolean
  to?: QapiInt
  ipv4?: boolean
  ipv6?: boolean
  'keep-alive'?: boolean
  mptcp?: boolean
}
type T67 = { path: string; abstract?: boolean; tight?: boolean }
type T68 = { cid: string; port: string }
type T69 = { str: string }
type T70 = { args: string[] }
type T71 = { filename: string; offset: QapiInt }
type T72 = { uri?: string; channels?: T63[]; 'exit-on-error'?: boolean }
type T73 = {
  state:
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
}
type T74 = {
  status?:
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
  ram?: T75
  vfio?: T76
  'xbzrle-cache'?: T77
  'total-time'?: QapiInt
  'expected-downtime'?: QapiInt
  downtime?: QapiInt
  'setup-time'?: QapiInt
  'cpu-throttle-percentage'?: QapiInt
  'error-desc'?: string
  'blocked-reasons'?: string[]
  'postcopy-blocktime'?: QapiInt
  'postcopy-vcpu-blocktime'?: QapiInt[]
  'socket-address'?: T65[]
  'dirty-limit-throttle-time-per-round'?: QapiInt
  'dirty-limit-ring-full-time'?: QapiInt
}
type T75 = {
  transferred: QapiInt
  remaining: QapiInt
  total: QapiInt
  duplicate: QapiInt
  normal: QapiInt
  'normal-bytes': QapiInt
  'dirty-pages-rate': QapiInt
  mbps: number
  'dirty-sync-count': QapiInt
  'postcopy-requests': QapiInt
  'page-size': QapiInt
  'multifd-bytes': QapiInt
  'pages-per-second': QapiInt
  'precopy-bytes': QapiInt
  'downtime-bytes': QapiInt
  'postcopy-bytes': QapiInt
  'dirty-sync-missed-zero-copy': QapiInt
}
type T76 = { transferred: QapiInt }
type T77 = {
  'cache-size': QapiInt
  bytes: QapiInt
  pages: QapiInt
  'cache-miss': QapiInt
  'cache-miss-rate': number
  'encoding-rate': number
  overflow: QapiInt
}
type T78 = {
  capability:
    | 'xbzrle'
    | 'rdma-pin-all'
    | 'auto-converge'
    | 'zero-blocks'
    | 'events'
    | 'postcopy-ram'
    | 'x-colo'
    | 'release-ram'
    | 'return-path'
    | 'pause-before-switchover'
    | 'multifd'
    | 'dirty-bitmaps'
    | 'postcopy-blocktime'
    | 'late-block-activate'
    | 'x-ignore-shared'
    | 'validate-uuid'
    | 'background-snapshot'
    | 'zero-copy-send'
    | 'postcopy-preempt'
    | 'switchover-ack'
    | 'dirty-limit'
    | 'mapped-ram'
  state: boolean
}
type T79 = { capabilities: T78[] }
type T80 = {
  'announce-initial'?: QapiInt
  'announce-max'?: QapiInt
  'announce-rounds'?: QapiInt
  'announce-step'?: QapiInt
  'throttle-trigger-threshold'?: QapiInt
  'cpu-throttle-initial'?: QapiInt
  'cpu-throttle-increment'?: QapiInt
  'cpu-throttle-tailslow'?: boolean
  'tls-creds'?: string
  'tls-hostname'?: string
  'tls-authz'?: string
  'max-bandwidth'?: QapiInt
  'avail-switchover-bandwidth'?: QapiInt
  'downtime-limit'?: QapiInt
  'x-checkpoint-delay'?: QapiInt
  'multifd-channels'?: QapiInt
  'xbzrle-cache-size'?: QapiInt
  'max-postcopy-bandwidth'?: QapiInt
  'max-cpu-throttle'?: QapiInt
  'multifd-compression'?: 'none' | 'zlib' | 'zstd'
  'multifd-zlib-level'?: QapiInt
  'multifd-qatzip-level'?: QapiInt
  'multifd-zstd-level'?: QapiInt
  'block-bitmap-mapping'?: T81[]
  'x-vcpu-dirty-limit-period'?: QapiInt
  'vcpu-dirty-limit'?: QapiInt
  mode?: 'normal' | 'cpr-reboot' | 'cpr-transfer'
  'zero-page-detection'?: 'none' | 'legacy' | 'multifd'
  'direct-io'?: boolean
}
type T81 = { 'node-name': string; alias: string; bitmaps: T82[] }
type T82 = { name: string; alias: string; transform?: T83 }
type T83 = { persistent?: boolean }
type T84 = {
  'announce-initial'?: QapiInt
  'announce-max'?: QapiInt
  'announce-rounds'?: QapiInt
  'announce-step'?: QapiInt
  'throttle-trigger-threshold'?: QapiInt
  'cpu-throttle-initial'?: QapiInt
  'cpu-throttle-increment'?: QapiInt
  'cpu-throttle-tailslow'?: boolean
  'tls-creds'?: string | null
  'tls-hostname'?: string | null
  'tls-authz'?: string | null
  'max-bandwidth'?: QapiInt
  'avail-switchover-bandwidth'?: QapiInt
  'downtime-limit'?: QapiInt
  'x-checkpoint-delay'?: QapiInt
  'multifd-channels'?: QapiInt
  'xbzrle-cache-size'?: QapiInt
  'max-postcopy-bandwidth'?: QapiInt
  'max-cpu-throttle'?: QapiInt
  'multifd-compression'?: 'none' | 'zlib' | 'zstd'
  'multifd-zlib-level'?: QapiInt
  'multifd-qatzip-level'?: QapiInt
  'multifd-zstd-level'?: QapiInt
  'block-bitmap-mapping'?: T81[]
  'x-vcpu-dirty-limit-period'?: QapiInt
  'vcpu-dirty-limit'?: QapiInt
  mode?: 'normal' | 'cpr-reboot' | 'cpr-transfer'
  'zero-page-detection'?: 'none' | 'legacy' | 'multifd'
  'direct-io'?: boolean
}
type T85 = { path: string }
type T86 = {
  name: string
  'device-id': QapiInt
  'vhost-started': boolean
  'device-endian': string
  'guest-features': T87
  'host-features': T87
  'backend-features': T87
  'num-vqs': QapiInt
  status: T88
  isr: QapiInt
  'queue-sel': QapiInt
  'vm-running': boolean
  broken: boolean
  disabled: boolean
  'use-started': boolean
  started: boolean
  'start-on-kick': boolean
  'disable-legacy-check': boolean
  'bus-name': string
  'use-guest-notifier-mask': boolean
  'vhost-dev'?: T89
}
type T87 = { transports: string[]; 'dev-features'?: string[]; 'unknown-dev-features'?: QapiInt }
type T88 = { statuses: string[]; 'unknown-statuses'?: QapiInt }
type T89 = {
  'n-mem-sections': QapiInt
  'n-tmp-sections': QapiInt
  nvqs: QapiInt
  'vq-index': QapiInt
  features: T87
  'acked-features': T87
  'backend-features': T87
  'protocol-features': T90
  'max-queues': QapiInt
  'backend-cap': QapiInt
  'log-enabled': boolean
  'log-size': QapiInt
}
type T90 = { protocols: string[]; 'unknown-protocols'?: QapiInt }
type T91 = { device?: string; path: string }
type T92 = { device?: string; path: string }
type T93 = {
  status:
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
}
type T94 = {
  guest: boolean
  reason:
    | 'none'
    | 'host-error'
    | 'host-qmp-quit'
    | 'host-qmp-system-reset'
    | 'host-signal'
    | 'host-ui'
    | 'guest-shutdown'
    | 'guest-reset'
    | 'guest-panic'
    | 'subsystem-reset'
    | 'snapshot-load'
}
type T95 = {
  guest: boolean
  reason:
    | 'none'
    | 'host-error'
    | 'host-qmp-quit'
    | 'host-qmp-system-reset'
    | 'host-signal'
    | 'host-ui'
    | 'guest-shutdown'
    | 'guest-reset'
    | 'guest-panic'
    | 'subsystem-reset'
    | 'snapshot-load'
}

export interface SchemaCommands {
  qmp_capabilities: { arguments: T1; returns: T2 }
  'query-version': { arguments: T2; returns: T3 }
  'query-status': { arguments: T2; returns: T5 }
  'query-name': { arguments: T2; returns: T6 }
  'qom-list': { arguments: T7; returns: T8[] }
  'qom-get': { arguments: T9; returns: Json }
  'qom-set': { arguments: T10; returns: T2 }
  'qom-list-types': { arguments: T11; returns: T12[] }
  'device-list-properties': { arguments: T13; returns: T8[] }
  'query-block': { arguments: T2; returns: T14[] }
  'query-blockstats': { arguments: T35; returns: T36[] }
  'query-named-block-nodes': { arguments: T42; returns: T15[] }
  'blockdev-add': { arguments: T43; returns: T2 }
  block_resize: { arguments: T47; returns: T2 }
  'blockdev-del': { arguments: T48; returns: T2 }
  'blockdev-set-active': { arguments: T49; returns: T2 }
  device_add: { arguments: T50; returns: T2 }
  device_del: { arguments: T51; returns: T2 }
  block_set_io_throttle: { arguments: T52; returns: T2 }
  'add-fd': { arguments: T53; returns: T54 }
  'remove-fd': { arguments: T55; returns: T2 }
  'query-fdsets': { arguments: T2; returns: T56[] }
  'query-yank': { arguments: T2; returns: T58[] }
  yank: { arguments: T61; returns: T2 }
  stop: { arguments: T2; returns: T2 }
  cont: { arguments: T2; returns: T2 }
  quit: { arguments: T2; returns: T2 }
  system_reset: { arguments: T2; returns: T2 }
  migrate: { arguments: T62; returns: T2 }
  'migrate-incoming': { arguments: T72; returns: T2 }
  'migrate-continue': { arguments: T73; returns: T2 }
  migrate_cancel: { arguments: T2; returns: T2 }
  'query-migrate': { arguments: T2; returns: T74 }
  'query-migrate-capabilities': { arguments: T2; returns: T78[] }
  'migrate-set-capabilities': { arguments: T79; returns: T2 }
  'query-migrate-parameters': { arguments: T2; returns: T80 }
  'migrate-set-parameters': { arguments: T84; returns: T2 }
  'x-query-virtio-status': { arguments: T85; returns: T86 }
}

export interface SchemaEvents {
  DEVICE_DELETED: T91
  DEVICE_UNPLUG_GUEST_ERROR: T92
  MIGRATION: T93
  STOP: T2
  RESUME: T2
  RESET: T94
  SHUTDOWN: T95
}

export type SchemaOutOfBand = 'query-yank' | 'yank'
