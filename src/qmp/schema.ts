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
type T40 = ({ driver: 'file' } & T41) | ({ driver: 'host_device' } & T41) | { driver: 'nbd' } | { driver: 'raw' }
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
      driver: 'nbd'
      'node-name'?: string
      discard?: 'ignore' | 'unmap'
      cache?: T44
      active?: boolean
      'read-only'?: boolean
      'auto-read-only'?: boolean
      'force-share'?: boolean
      'detect-zeroes'?: 'off' | 'on' | 'unmap'
    } & T46)
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
    } & T52)
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
type T46 = {
  server: T47
  export?: string
  'tls-creds'?: string
  'tls-hostname'?: string
  'x-dirty-bitmap'?: string
  'reconnect-delay'?: QapiInt
  'open-timeout'?: QapiInt
}
type T47 = ({ type: 'inet' } & T48) | ({ type: 'unix' } & T49) | ({ type: 'vsock' } & T50) | ({ type: 'fd' } & T51)
type T48 = {
  host: string
  port: string
  numeric?: boolean
  to?: QapiInt
  ipv4?: boolean
  ipv6?: boolean
  'keep-alive'?: boolean
  mptcp?: boolean
}
type T49 = { path: string; abstract?: boolean; tight?: boolean }
type T50 = { cid: string; port: string }
type T51 = { str: string }
type T52 = { file: T43 | string; offset?: QapiInt; size?: QapiInt }
type T53 = { device?: string; 'node-name'?: string; size: QapiInt }
type T54 = { 'node-name': string }
type T55 = { 'node-name'?: string; active: boolean }
type T56 = { driver: string; bus?: string; id?: string }
type T57 = { id: string }
type T58 = {
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
type T59 = { 'fdset-id'?: QapiInt; opaque?: string }
type T60 = { 'fdset-id': QapiInt; fd: QapiInt }
type T61 = { 'fdset-id': QapiInt; fd?: QapiInt }
type T62 = { 'fdset-id': QapiInt; fds: T63[] }
type T63 = { fd: QapiInt; opaque?: string }
type T64 = ({ type: 'block-node' } & T65) | ({ type: 'chardev' } & T66) | { type: 'migration' }
type T65 = { 'node-name': string }
type T66 = { id: string }
type T67 = { instances: T64[] }
type T68 = { uri?: string; channels?: T69[]; detach?: boolean; resume?: boolean }
type T69 = { 'channel-type': 'main' | 'cpr'; addr: T70 }
type T70 =
  | ({ transport: 'socket' } & T47)
  | ({ transport: 'exec' } & T71)
  | ({ transport: 'rdma' } & T48)
  | ({ transport: 'file' } & T72)
type T71 = { args: string[] }
type T72 = { filename: string; offset: QapiInt }
type T73 = { uri?: string; channels?: T69[]; 'exit-on-error'?: boolean }
type T74 = {
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
type T75 = { uri: string }
type T76 = {
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
  ram?: T77
  vfio?: T78
  'xbzrle-cache'?: T79
  'total-time'?: QapiInt
  'expected-downtime'?: QapiInt
  downtime?: QapiInt
  'setup-time'?: QapiInt
  'cpu-throttle-percentage'?: QapiInt
  'error-desc'?: string
  'blocked-reasons'?: string[]
  'postcopy-blocktime'?: QapiInt
  'postcopy-vcpu-blocktime'?: QapiInt[]
  'socket-address'?: T47[]
  'dirty-limit-throttle-time-per-round'?: QapiInt
  'dirty-limit-ring-full-time'?: QapiInt
}
type T77 = {
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
type T78 = { transferred: QapiInt }
type T79 = {
  'cache-size': QapiInt
  bytes: QapiInt
  pages: QapiInt
  'cache-miss': QapiInt
  'cache-miss-rate': number
  'encoding-rate': number
  overflow: QapiInt
}
type T80 = {
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
type T81 = { capabilities: T80[] }
type T82 = {
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
  'block-bitmap-mapping'?: T83[]
  'x-vcpu-dirty-limit-period'?: QapiInt
  'vcpu-dirty-limit'?: QapiInt
  mode?: 'normal' | 'cpr-reboot' | 'cpr-transfer'
  'zero-page-detection'?: 'none' | 'legacy' | 'multifd'
  'direct-io'?: boolean
}
type T83 = { 'node-name': string; alias: string; bitmaps: T84[] }
type T84 = { name: string; alias: string; transform?: T85 }
type T85 = { persistent?: boolean }
type T86 = {
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
  'block-bitmap-mapping'?: T83[]
  'x-vcpu-dirty-limit-period'?: QapiInt
  'vcpu-dirty-limit'?: QapiInt
  mode?: 'normal' | 'cpr-reboot' | 'cpr-transfer'
  'zero-page-detection'?: 'none' | 'legacy' | 'multifd'
  'direct-io'?: boolean
}
type T87 = { path: string }
type T88 = {
  name: string
  'device-id': QapiInt
  'vhost-started': boolean
  'device-endian': string
  'guest-features': T89
  'host-features': T89
  'backend-features': T89
  'num-vqs': QapiInt
  status: T90
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
  'vhost-dev'?: T91
}
type T89 = { transports: string[]; 'dev-features'?: string[]; 'unknown-dev-features'?: QapiInt }
type T90 = { statuses: string[]; 'unknown-statuses'?: QapiInt }
type T91 = {
  'n-mem-sections': QapiInt
  'n-tmp-sections': QapiInt
  nvqs: QapiInt
  'vq-index': QapiInt
  features: T89
  'acked-features': T89
  'backend-features': T89
  'protocol-features': T92
  'max-queues': QapiInt
  'backend-cap': QapiInt
  'log-enabled': boolean
  'log-size': QapiInt
}
type T92 = { protocols: string[]; 'unknown-protocols'?: QapiInt }
type T93 = {
  'handshake-max-seconds'?: QapiInt
  'tls-creds'?: string
  'tls-authz'?: string
  'max-connections'?: QapiInt
  addr: T94
}
type T94 = ({ type: 'inet' } & T95) | ({ type: 'unix' } & T96) | ({ type: 'vsock' } & T97) | ({ type: 'fd' } & T98)
type T95 = { data: T48 }
type T96 = { data: T49 }
type T97 = { data: T50 }
type T98 = { data: T51 }
type T99 =
  | ({
      type: 'nbd'
      id: string
      'fixed-iothread'?: boolean
      iothread?: string
      'node-name': string
      writable?: boolean
      writethrough?: boolean
      'allow-inactive'?: boolean
    } & T100)
  | ({
      type: 'vhost-user-blk'
      id: string
      'fixed-iothread'?: boolean
      iothread?: string
      'node-name': string
      writable?: boolean
      writethrough?: boolean
      'allow-inactive'?: boolean
    } & T102)
  | ({
      type: 'fuse'
      id: string
      'fixed-iothread'?: boolean
      iothread?: string
      'node-name': string
      writable?: boolean
      writethrough?: boolean
      'allow-inactive'?: boolean
    } & T103)
  | ({
      type: 'vduse-blk'
      id: string
      'fixed-iothread'?: boolean
      iothread?: string
      'node-name': string
      writable?: boolean
      writethrough?: boolean
      'allow-inactive'?: boolean
    } & T104)
type T100 = { name?: string; description?: string; bitmaps?: (string | T101)[]; 'allocation-depth'?: boolean }
type T101 = { node: string; name: string }
type T102 = { addr: T47; 'logical-block-size'?: QapiInt; 'num-queues'?: QapiInt }
type T103 = { mountpoint: string; growable?: boolean; 'allow-other'?: 'off' | 'on' | 'auto' }
type T104 = {
  name: string
  'num-queues'?: QapiInt
  'queue-size'?: QapiInt
  'logical-block-size'?: QapiInt
  serial?: string
}
type T105 = {
  'job-id'?: string
  device: string
  target: string
  replaces?: string
  sync: 'top' | 'full' | 'none' | 'incremental' | 'bitmap'
  speed?: QapiInt
  granularity?: QapiInt
  'buf-size'?: QapiInt
  'on-source-error'?: 'report' | 'ignore' | 'enospc' | 'stop' | 'auto'
  'on-target-error'?: 'report' | 'ignore' | 'enospc' | 'stop' | 'auto'
  'filter-node-name'?: string
  'copy-mode'?: 'background' | 'write-blocking'
  'auto-finalize'?: boolean
  'auto-dismiss'?: boolean
}
type T106 = { device: string; force?: boolean }
type T107 = {
  id: string
  type:
    | 'commit'
    | 'stream'
    | 'mirror'
    | 'backup'
    | 'create'
    | 'amend'
    | 'snapshot-load'
    | 'snapshot-save'
    | 'snapshot-delete'
  status:
    | 'undefined'
    | 'created'
    | 'running'
    | 'paused'
    | 'ready'
    | 'standby'
    | 'waiting'
    | 'pending'
    | 'aborting'
    | 'concluded'
    | 'null'
  'current-progress': QapiInt
  'total-progress': QapiInt
  error?: string
}
type T108 = { id: string }
type T109 = { device?: string; path: string }
type T110 = { device?: string; path: string }
type T111 = {
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
type T112 = {
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
type T113 = {
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
  block_resize: { arguments: T53; returns: T2 }
  'blockdev-del': { arguments: T54; returns: T2 }
  'blockdev-set-active': { arguments: T55; returns: T2 }
  device_add: { arguments: T56; returns: T2 }
  device_del: { arguments: T57; returns: T2 }
  block_set_io_throttle: { arguments: T58; returns: T2 }
  'add-fd': { arguments: T59; returns: T60 }
  'remove-fd': { arguments: T61; returns: T2 }
  'query-fdsets': { arguments: T2; returns: T62[] }
  'query-yank': { arguments: T2; returns: T64[] }
  yank: { arguments: T67; returns: T2 }
  stop: { arguments: T2; returns: T2 }
  cont: { arguments: T2; returns: T2 }
  quit: { arguments: T2; returns: T2 }
  system_reset: { arguments: T2; returns: T2 }
  migrate: { arguments: T68; returns: T2 }
  'migrate-incoming': { arguments: T73; returns: T2 }
  'migrate-start-postcopy': { arguments: T2; returns: T2 }
  'migrate-continue': { arguments: T74; returns: T2 }
  'migrate-pause': { arguments: T2; returns: T2 }
  'migrate-recover': { arguments: T75; returns: T2 }
  migrate_cancel: { arguments: T2; returns: T2 }
  'query-migrate': { arguments: T2; returns: T76 }
  'query-migrate-capabilities': { arguments: T2; returns: T80[] }
  'migrate-set-capabilities': { arguments: T81; returns: T2 }
  'query-migrate-parameters': { arguments: T2; returns: T82 }
  'migrate-set-parameters': { arguments: T86; returns: T2 }
  'x-query-virtio-status': { arguments: T87; returns: T88 }
  'nbd-server-start': { arguments: T93; returns: T2 }
  'nbd-server-stop': { arguments: T2; returns: T2 }
  'block-export-add': { arguments: T99; returns: T2 }
  'blockdev-mirror': { arguments: T105; returns: T2 }
  'block-job-cancel': { arguments: T106; returns: T2 }
  'query-jobs': { arguments: T2; returns: T107[] }
  'job-dismiss': { arguments: T108; returns: T2 }
}

export interface SchemaEvents {
  DEVICE_DELETED: T109
  DEVICE_UNPLUG_GUEST_ERROR: T110
  MIGRATION: T111
  STOP: T2
  RESUME: T2
  RESET: T112
  SHUTDOWN: T113
}

export type SchemaOutOfBand = 'query-yank' | 'yank' | 'migrate-pause' | 'migrate-recover'
