// SPDX-License-Identifier: GPL-2.0-or-later

import naturalCompare from 'natural-compare'
import { ExitCode, VblkError } from '../errors.ts'
import type { BlockInfo, Json, QapiInt, WaitOptions } from '../qmp/index.ts'
import { isDriven } from '../vm/guest-driver.ts'
import { listChildren, peripheral, peripheralAnon, type QomChild, readProperty } from '../vm/qom.ts'
import { type Vm, vhostBlkPci } from '../vm/vm.ts'
import { fileOfSet } from './descriptors.ts'
import type { DatapathChoice, DiscardMode } from './spec.ts'
import { notStarted, readVhostState, type VhostState } from './vhost-state.ts'

export type WriteCache = 'writeback' | 'writethrough'

/**
 * Who serves the disk now. Idle: nobody, because the guest's driver hasn't started the device or the VM stands still;
 * who will serve it shows when it starts.
 */
export type Datapath = 'kernel' | 'userspace' | 'idle'

/** A virtio-blk disk of a VM, as QEMU tells it now. */
export interface DiskInfo {
  /** Null for a device that was given none. */
  id: string | null
  /** The device's path in QEMU's object tree. */
  path: string
  /** The device's QOM type. */
  type: string
  /** The block node that the device uses; null for a drive without a medium. */
  node: string | null
  file: string | null
  sizeBytes: number | null
  readOnly: boolean
  /** none: O_DIRECT. unsafe: flushes are ignored. */
  cache: 'none' | 'writeback' | 'unsafe' | null
  /** The device property write-cache. */
  writeCacheSetting: 'auto' | WriteCache
  /** What realize or a reset sets, and what the guest has now; null when this device can't tell. */
  writeCache: { original: WriteCache | null; current: WriteCache | null }
  serial: string
  /** As the guest sees them, in bytes. */
  blockSize: { logical: number | null; physical: number | null }
  /** ignore: the guest can't discard. */
  discard: DiscardMode
  /** Of reads and writes together; null for none. While there is one, QEMU serves the disk. */
  limits: { bytesPerSecond: number | null; requestsPerSecond: number | null }
  queues: number | null
  /** The iothread object that serves the disk when QEMU does; null for QEMU's main loop. */
  iothread: string | null
  bus: string | null
  addr: string | null
  /** The device property vhost; null for a device that has none. */
  datapathSetting: DatapathChoice | null
  datapath: Datapath
  /** Why it is not the kernel, now or as soon as the disk is started; "" when it is. */
  reason: string
  /** Figures from the kernel; null for a device that never uses it. */
  kernel: Omit<VhostState, 'active' | 'reason'> | null
}

/** Lists the virtio-blk disks of a VM, those with a name first. */
export async function listDisks(vm: Vm, options: WaitOptions = {}): Promise<DiskInfo[]> {
  // All at once: QEMU answers in order, and each wait for an answer costs two wake-ups.
  const [named, anonymous, blocks, { running, status }] = await Promise.all([
    listChildren(vm, peripheral, options),
    listChildren(vm, peripheralAnon, options),
    vm.qmp.execute('query-block', {}, options),
    vm.qmp.execute('query-status', {}, options),
  ])
  await nameFiles(vm, blocks, options)
  const standstill = running ? undefined : `the VM is not running (${status})`
  const found = [
    ...sortByName(named).map((device) => ({ device, id: device.name })),
    ...sortByName(anonymous).map((device) => ({ device, id: null })),
  ].filter(({ device }) => isDisk(device))
  return await Promise.all(found.map(({ device, id }) => readDisk(vm, device, id, blocks, standstill, options)))
}

/** Puts the paths that vblk opened in place of the names by which QEMU opened their descriptors. */
async function nameFiles(vm: Vm, blocks: BlockInfo[], options: WaitOptions): Promise<void> {
  const images = blocks.flatMap(({ inserted }) => (inserted === undefined ? [] : [inserted.image]))
  if (!images.some(({ filename }) => filename.startsWith('/dev/fdset/'))) return
  const sets = await vm.qmp.execute('query-fdsets', {}, options)
  for (const image of images) image.filename = fileOfSet(image.filename, sets)
}

/** The properties that DiskInfo is made from, by QEMU's names. */
const propertyNames = [
  ...['num-queues', 'write-cache', 'original-write-cache', 'current-write-cache', 'serial', 'logical_block_size'],
  ...['physical_block_size', 'discard', 'parent_bus', 'legacy-addr', 'vhost', 'iothread'],
]

/** One disk by its id; undefined when no disk has it. */
export async function findDisk(vm: Vm, id: string, options: WaitOptions = {}): Promise<DiskInfo | undefined> {
  return (await listDisks(vm, options)).find((disk) => disk.id === id)
}

/** The same, and throws VblkError (exit code 3) when there is none. */
export async function requireDisk(vm: Vm, id: string, options: WaitOptions = {}): Promise<DiskInfo> {
  const disk = await findDisk(vm, id, options)
  if (disk !== undefined) return disk
  throw new VblkError('DISK_NOT_FOUND', ExitCode.NotFound, `${vm.name} has no virtio disk with the id ${id}`, {
    hint: `see its disks with: vblk list ${vm.name}`,
  })
}

/** Whether a device is a disk that vblk deals with: ours, or the one that it can stand in for. */
export function isDisk(device: QomChild): boolean {
  return device.type === vhostBlkPci || /^virtio-blk-pci(-(non-)?transitional)?$/.test(device.type)
}

async function readDisk(
  vm: Vm,
  device: QomChild,
  id: string | null,
  blocks: BlockInfo[],
  standstill: string | undefined,
  options: WaitOptions,
): Promise<DiskInfo> {
  const read = (name: string) => readProperty(vm, device.path, name, options)
  const [state, ...values] = await Promise.all([readVhostState(vm, device.path, options), ...propertyNames.map(read)])
  const property = (name: string) => values[propertyNames.indexOf(name)]
  const inserted = blocks.find(({ qdev }) => qdev === device.path || qdev?.startsWith(`${device.path}/`))?.inserted
  const queues = property('num-queues')
  return {
    id,
    path: device.path,
    type: device.type,
    node: inserted?.['node-name'] ?? null,
    file: inserted?.image.filename ?? null,
    sizeBytes: inserted === undefined ? null : Number(inserted.image['virtual-size']),
    readOnly: inserted?.ro ?? false,
    cache: inserted === undefined ? null : cacheMode(inserted.cache),
    writeCacheSetting: writeCacheSetting(property('write-cache')),
    writeCache: {
      original: writeCache(property('original-write-cache')),
      current: writeCache(property('current-write-cache')),
    },
    serial: text(property('serial')) ?? '',
    blockSize: {
      logical: number(property('logical_block_size')),
      physical: number(property('physical_block_size')),
    },
    discard: property('discard') === false ? 'ignore' : 'unmap',
    limits: { bytesPerSecond: limit(inserted?.bps), requestsPerSecond: limit(inserted?.iops) },
    queues: queues === undefined ? null : Number(queues),
    // A link reads as the object's path, '' for none.
    iothread: text(property('iothread'))?.split('/').at(-1) || null,
    bus: text(property('parent_bus'))?.split('/').at(-1) ?? null,
    addr: text(property('legacy-addr')),
    datapathSetting: datapathSetting(property('vhost')),
    ...(await readDatapath(vm, device, state, standstill, options)),
    kernel: state === undefined ? null : kernelFigures(state),
  }
}

async function readDatapath(
  vm: Vm,
  device: QomChild,
  state: VhostState | undefined,
  standstill: string | undefined,
  options: WaitOptions,
): Promise<{ datapath: Datapath; reason: string }> {
  if (state?.active) return { datapath: 'kernel', reason: '' }
  if (standstill !== undefined) return { datapath: 'idle', reason: state?.reason ?? standstill }
  if ((await isDriven(vm, device.path, options)) === false) {
    return { datapath: 'idle', reason: state?.reason ?? notStarted }
  }
  return { datapath: 'userspace', reason: state?.reason ?? `a ${device.type} has no kernel datapath` }
}

function kernelFigures({ fds, runningQueues, requests, errors }: VhostState): DiskInfo['kernel'] {
  return { fds, runningQueues, requests, errors }
}

function cacheMode(cache: { direct: boolean; 'no-flush': boolean }): DiskInfo['cache'] {
  if (cache['no-flush']) return 'unsafe'
  return cache.direct ? 'none' : 'writeback'
}

function writeCacheSetting(value: Json | undefined): DiskInfo['writeCacheSetting'] {
  if (value === 'on') return 'writeback'
  return value === 'off' ? 'writethrough' : 'auto'
}

function writeCache(value: Json | undefined): WriteCache | null {
  if (typeof value !== 'boolean') return null
  return value ? 'writeback' : 'writethrough'
}

function datapathSetting(value: Json | undefined): DatapathChoice | null {
  if (value === 'on') return 'kernel'
  if (value === 'off') return 'userspace'
  return value === 'auto' ? 'auto' : null
}

function number(value: Json | undefined): number | null {
  return typeof value === 'number' ? value : null
}

function limit(value: QapiInt | undefined): number | null {
  return value === undefined || Number(value) === 0 ? null : Number(value)
}

function text(value: Json | undefined): string | null {
  return typeof value === 'string' ? value : null
}

function sortByName(devices: QomChild[]): QomChild[] {
  return [...devices].sort((a, b) => naturalCompare(a.name, b.name))
}
