// SPDX-License-Identifier: GPL-2.0-or-later
// Made by script/qapi.ts from QEMU's query-qmp-schema: don't edit. Types are numbered as there.

import type { Json, QapiInt } from './json.ts'

type T179 = { enable?: 'oob'[] }
type T0 = Record<string, never>
type T180 = { qemu: T452; package: string }
type T452 = { major: QapiInt; minor: QapiInt; micro: QapiInt }
type T1 = {
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
type T236 = { name?: string }
type T183 = { path: string }
type T184 = { name: string; type: string; description?: string; 'default-value'?: Json }
type T185 = { path: string; property: string }
type T186 = { path: string; property: string; value: Json }
type T187 = { implements?: string; abstract?: boolean }
type T188 = { name: string; abstract?: boolean; parent?: string }
type T192 = { typename: string }
type T29 = {
  device: string
  qdev?: string
  type: string
  removable: boolean
  locked: boolean
  inserted?: T41
  tray_open?: boolean
  'io-status'?: 'ok' | 'failed' | 'nospace'
}
type T41 = {
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
  image: T312
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
  cache: T313
  write_threshold: QapiInt
  'dirty-bitmaps'?: T314[]
}
type T312 = {
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
  snapshots?: T79[]
  'format-specific'?: T583
  'backing-image'?: T312
}
type T79 = {
  id: string
  name: string
  'vm-state-size': QapiInt
  'date-sec': QapiInt
  'date-nsec': QapiInt
  'vm-clock-sec': QapiInt
  'vm-clock-nsec': QapiInt
  icount?: QapiInt
}
type T583 =
  | ({ type: 'qcow2' } & T718)
  | ({ type: 'vmdk' } & T719)
  | ({ type: 'luks' } & T720)
  | ({ type: 'rbd' } & T721)
  | ({ type: 'file' } & T722)
type T718 = { data: T783 }
type T783 = {
  compat: string
  'data-file'?: string
  'data-file-raw'?: boolean
  'extended-l2'?: boolean
  'lazy-refcounts'?: boolean
  corrupt?: boolean
  'refcount-bits': QapiInt
  encrypt?: T798
  bitmaps?: T799[]
  'compression-type': 'zlib' | 'zstd'
}
type T798 = ({ format: 'luks' } & T785) | { format: 'aes' }
type T785 = {
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
  slots: T801[]
}
type T801 = { active: boolean; iters?: QapiInt; stripes?: QapiInt; 'key-offset': QapiInt }
type T799 = { name: string; granularity: QapiInt; flags: ('in-use' | 'auto')[] }
type T719 = { data: T784 }
type T784 = { 'create-type': string; cid: QapiInt; 'parent-cid': QapiInt; extents: T800[] }
type T800 = {
  filename: string
  format: string
  'virtual-size': QapiInt
  'cluster-size'?: QapiInt
  compressed?: boolean
}
type T720 = { data: T785 }
type T721 = { data: T786 }
type T786 = { 'encryption-format'?: 'luks' | 'luks2' | 'luks-any' }
type T722 = { data: T787 }
type T787 = { 'extent-size-hint'?: QapiInt }
type T313 = { writeback: boolean; direct: boolean; 'no-flush': boolean }
type T314 = {
  name?: string
  count: QapiInt
  granularity: QapiInt
  recording: boolean
  busy: boolean
  persistent: boolean
  inconsistent?: boolean
}
type T30 = { 'query-nodes'?: boolean }
type T31 = {
  device?: string
  qdev?: string
  'node-name'?: string
  stats: T303
  'driver-specific'?: T304
  parent?: T31
  backing?: T31
}
type T303 = {
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
  timed_stats: T579[]
  rd_latency_histogram?: T580
  wr_latency_histogram?: T580
  zone_append_latency_histogram?: T580
  flush_latency_histogram?: T580
}
type T579 = {
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
type T580 = { boundaries: QapiInt[]; bins: QapiInt[] }
type T304 = ({ driver: 'file' } & T581) | ({ driver: 'host_device' } & T581) | { driver: 'raw' }
type T581 = { 'discard-nb-ok': QapiInt; 'discard-nb-failed': QapiInt; 'discard-bytes-ok': QapiInt }
type T40 = { flat?: boolean }
type T58 =
  | ({
      driver: 'file'
      'node-name'?: string
      discard?: 'ignore' | 'unmap'
      cache?: T322
      active?: boolean
      'read-only'?: boolean
      'auto-read-only'?: boolean
      'force-share'?: boolean
      'detect-zeroes'?: 'off' | 'on' | 'unmap'
    } & T330)
  | ({
      driver: 'host_device'
      'node-name'?: string
      discard?: 'ignore' | 'unmap'
      cache?: T322
      active?: boolean
      'read-only'?: boolean
      'auto-read-only'?: boolean
      'force-share'?: boolean
      'detect-zeroes'?: 'off' | 'on' | 'unmap'
    } & T330)
  | ({
      driver: 'raw'
      'node-name'?: string
      discard?: 'ignore' | 'unmap'
      cache?: T322
      active?: boolean
      'read-only'?: boolean
      'auto-read-only'?: boolean
      'force-share'?: boolean
      'detect-zeroes'?: 'off' | 'on' | 'unmap'
    } & T349)
type T322 = { direct?: boolean; 'no-flush'?: boolean }
type T330 = {
  filename: string
  'pr-manager'?: string
  locking?: 'auto' | 'on' | 'off'
  aio?: 'threads' | 'native' | 'io_uring'
  'aio-max-batch'?: QapiInt
  'drop-cache'?: boolean
  'x-check-cache-dropped'?: boolean
}
type T349 = { file: T58 | string; offset?: QapiInt; size?: QapiInt }
type T33 = { device?: string; 'node-name'?: string; size: QapiInt }
type T60 = { 'node-name': string }
type T61 = { 'node-name'?: string; active: boolean }
type T193 = { driver: string; bus?: string; id?: string }
type T194 = { id: string }
type T27 = {
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
type T242 = { 'fdset-id'?: QapiInt; opaque?: string }
type T243 = { 'fdset-id': QapiInt; fd: QapiInt }
type T244 = { 'fdset-id': QapiInt; fd?: QapiInt }
type T245 = { 'fdset-id': QapiInt; fds: T532[] }
type T532 = { fd: QapiInt; opaque?: string }
type T234 = ({ type: 'block-node' } & T530) | ({ type: 'chardev' } & T531) | { type: 'migration' }
type T530 = { 'node-name': string }
type T531 = { id: string }
type T233 = { instances: T234[] }
type T155 = { uri?: string; channels?: T443[]; detach?: boolean; resume?: boolean }
type T443 = { 'channel-type': 'main' | 'cpr'; addr: T662 }
type T662 =
  | ({ transport: 'socket' } & T394)
  | ({ transport: 'exec' } & T777)
  | ({ transport: 'rdma' } & T604)
  | ({ transport: 'file' } & T778)
type T394 = ({ type: 'inet' } & T604) | ({ type: 'unix' } & T646) | ({ type: 'vsock' } & T647) | ({ type: 'fd' } & T648)
type T604 = {
  host: string
  port: string
  numeric?: boolean
  to?: QapiInt
  ipv4?: boolean
  ipv6?: boolean
  'keep-alive'?: boolean
  mptcp?: boolean
}
type T646 = { path: string; abstract?: boolean; tight?: boolean }
type T647 = { cid: string; port: string }
type T648 = { str: string }
type T777 = { args: string[] }
type T778 = { filename: string; offset: QapiInt }
type T156 = { uri?: string; channels?: T443[]; 'exit-on-error'?: boolean }
type T154 = {
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
type T146 = {
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
  ram?: T433
  vfio?: T434
  'xbzrle-cache'?: T435
  'total-time'?: QapiInt
  'expected-downtime'?: QapiInt
  downtime?: QapiInt
  'setup-time'?: QapiInt
  'cpu-throttle-percentage'?: QapiInt
  'error-desc'?: string
  'blocked-reasons'?: string[]
  'postcopy-blocktime'?: QapiInt
  'postcopy-vcpu-blocktime'?: QapiInt[]
  'socket-address'?: T394[]
  'dirty-limit-throttle-time-per-round'?: QapiInt
  'dirty-limit-ring-full-time'?: QapiInt
}
type T433 = {
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
type T434 = { transferred: QapiInt }
type T435 = {
  'cache-size': QapiInt
  bytes: QapiInt
  pages: QapiInt
  'cache-miss': QapiInt
  'cache-miss-rate': number
  'encoding-rate': number
  overflow: QapiInt
}
type T148 = {
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
type T147 = { capabilities: T148[] }
type T150 = {
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
  'block-bitmap-mapping'?: T438[]
  'x-vcpu-dirty-limit-period'?: QapiInt
  'vcpu-dirty-limit'?: QapiInt
  mode?: 'normal' | 'cpr-reboot' | 'cpr-transfer'
  'zero-page-detection'?: 'none' | 'legacy' | 'multifd'
  'direct-io'?: boolean
}
type T438 = { 'node-name': string; alias: string; bitmaps: T660[] }
type T660 = { name: string; alias: string; transform?: T775 }
type T775 = { persistent?: boolean }
type T149 = {
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
  'block-bitmap-mapping'?: T438[]
  'x-vcpu-dirty-limit-period'?: QapiInt
  'vcpu-dirty-limit'?: QapiInt
  mode?: 'normal' | 'cpr-reboot' | 'cpr-transfer'
  'zero-page-detection'?: 'none' | 'legacy' | 'multifd'
  'direct-io'?: boolean
}
type T270 = { path: string }
type T271 = {
  name: string
  'device-id': QapiInt
  'vhost-started': boolean
  'device-endian': string
  'guest-features': T561
  'host-features': T561
  'backend-features': T561
  'num-vqs': QapiInt
  status: T562
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
  'vhost-dev'?: T563
}
type T561 = { transports: string[]; 'dev-features'?: string[]; 'unknown-dev-features'?: QapiInt }
type T562 = { statuses: string[]; 'unknown-statuses'?: QapiInt }
type T563 = {
  'n-mem-sections': QapiInt
  'n-tmp-sections': QapiInt
  nvqs: QapiInt
  'vq-index': QapiInt
  features: T561
  'acked-features': T561
  'backend-features': T561
  'protocol-features': T713
  'max-queues': QapiInt
  'backend-cap': QapiInt
  'log-enabled': boolean
  'log-size': QapiInt
}
type T713 = { protocols: string[]; 'unknown-protocols'?: QapiInt }
type T195 = { device?: string; path: string }
type T196 = { device?: string; path: string }
type T151 = {
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
type T3 = {
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
type T2 = {
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
  qmp_capabilities: { arguments: T179; returns: T0 }
  'query-version': { arguments: T0; returns: T180 }
  'query-status': { arguments: T0; returns: T1 }
  'query-name': { arguments: T0; returns: T236 }
  'qom-list': { arguments: T183; returns: T184[] }
  'qom-get': { arguments: T185; returns: Json }
  'qom-set': { arguments: T186; returns: T0 }
  'qom-list-types': { arguments: T187; returns: T188[] }
  'device-list-properties': { arguments: T192; returns: T184[] }
  'query-block': { arguments: T0; returns: T29[] }
  'query-blockstats': { arguments: T30; returns: T31[] }
  'query-named-block-nodes': { arguments: T40; returns: T41[] }
  'blockdev-add': { arguments: T58; returns: T0 }
  block_resize: { arguments: T33; returns: T0 }
  'blockdev-del': { arguments: T60; returns: T0 }
  'blockdev-set-active': { arguments: T61; returns: T0 }
  device_add: { arguments: T193; returns: T0 }
  device_del: { arguments: T194; returns: T0 }
  block_set_io_throttle: { arguments: T27; returns: T0 }
  'add-fd': { arguments: T242; returns: T243 }
  'remove-fd': { arguments: T244; returns: T0 }
  'query-fdsets': { arguments: T0; returns: T245[] }
  'query-yank': { arguments: T0; returns: T234[] }
  yank: { arguments: T233; returns: T0 }
  stop: { arguments: T0; returns: T0 }
  cont: { arguments: T0; returns: T0 }
  quit: { arguments: T0; returns: T0 }
  system_reset: { arguments: T0; returns: T0 }
  migrate: { arguments: T155; returns: T0 }
  'migrate-incoming': { arguments: T156; returns: T0 }
  'migrate-continue': { arguments: T154; returns: T0 }
  migrate_cancel: { arguments: T0; returns: T0 }
  'query-migrate': { arguments: T0; returns: T146 }
  'query-migrate-capabilities': { arguments: T0; returns: T148[] }
  'migrate-set-capabilities': { arguments: T147; returns: T0 }
  'query-migrate-parameters': { arguments: T0; returns: T150 }
  'migrate-set-parameters': { arguments: T149; returns: T0 }
  'x-query-virtio-status': { arguments: T270; returns: T271 }
}

export interface SchemaEvents {
  DEVICE_DELETED: T195
  DEVICE_UNPLUG_GUEST_ERROR: T196
  MIGRATION: T151
  STOP: T0
  RESUME: T0
  RESET: T3
  SHUTDOWN: T2
}

export type SchemaOutOfBand = 'query-yank' | 'yank'
