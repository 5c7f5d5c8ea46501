// SPDX-License-Identifier: GPL-2.0-or-later

import path from 'node:path'
import { fileNodeName, nodeName } from '../disk/names.ts'
import type { Source } from '../disk/source.ts'
import type { DiskSpec } from '../disk/spec.ts'
import { ExitCode, VblkError } from '../errors.ts'
import type { BlockDeviceInfo, DeviceAddOptions } from '../qmp/index.ts'
import { vhostBlkPci } from '../vm/vm.ts'
import { type DescribedDisk, diskName } from './differences.ts'

/** What makes a disk on the destination. */
export interface Preparation {
  id: string
  spec: DiskSpec
  device: DeviceAddOptions
  /** The kernel must be able to serve it. */
  needsKernel: boolean
}

/**
 * Plans the twin of a disk that vblk attached: same file, id, bus, slot and properties. Throws VblkError (exit code 5) for
 * any other disk: QMP doesn't tell all that its block nodes were made with, so the destination must be started with it.
 */
export function planPreparation(
  described: DescribedDisk,
  nodes: readonly BlockDeviceInfo[],
  needsKernel = false,
): Preparation {
  const { disk, properties } = described
  const { id, bus, addr, file, cache } = disk
  const source = fileNode(described, nodes)
  if (id === null || bus === null || addr === null || file === null || source === undefined || cache === 'unsafe') {
    throw mustBeThere(described)
  }
  const spec: DiskSpec = {
    id,
    file,
    readOnly: disk.readOnly,
    raw: true,
    cache: cache ?? 'none',
    writeCache: disk.writeCacheSetting,
    datapath: disk.datapathSetting ?? 'auto',
    discard: disk.discard,
    bandwidth: disk.limits.bytesPerSecond ?? undefined,
    iops: disk.limits.requestsPerSecond ?? undefined,
    bus,
    addr,
    iothread: disk.iothread ?? undefined,
    passFds: source.passed,
    source,
  }
  const { vhostdev, ...others } = properties
  return {
    id,
    spec,
    needsKernel,
    device: {
      driver: vhostBlkPci,
      id,
      bus,
      addr,
      drive: nodeName(id),
      ...others,
      // The name of a set is good in its own QEMU.
      ...(vhostdev !== undefined && !source.passed && { vhostdev }),
      ...writeCacheProperty(described),
    },
  }
}

/** The same disk on another image, which vblk opens by its path if the source was passed its own. */
export function onImage(preparation: Preparation, source: Source): Preparation {
  return { ...preparation, spec: { ...preparation.spec, file: source.file, source } }
}

/** The original write cache, where the default would bring another. */
function writeCacheProperty({ disk, properties }: DescribedDisk): { 'write-cache'?: string } {
  if (properties['write-cache'] !== undefined || disk.writeCache.original !== 'writethrough') return {}
  return { 'write-cache': 'off' }
}

/** The file below the disk, if the nodes are as attach makes them. */
function fileNode(
  { disk }: DescribedDisk,
  nodes: readonly BlockDeviceInfo[],
): (DiskSpec['source'] & { passed: boolean }) | undefined {
  const { id, type, node, file, sizeBytes } = disk
  if (id === null || type !== vhostBlkPci || node !== nodeName(id) || file === null) return undefined
  const top = nodes.find((each) => each['node-name'] === node)
  const below = nodes.find((each) => each['node-name'] === fileNodeName(id))
  if (top?.drv !== 'raw' || below === undefined) return undefined
  if (below.drv !== 'file' && below.drv !== 'host_device') return undefined
  const { filename } = below.image
  const passed = filename.startsWith('/dev/fdset/') && path.isAbsolute(file) && filename !== file
  // QEMU shows options as json: that have no place in a file's name; another size means that only a part is used.
  if (file.startsWith('json:') || (filename !== file && !passed)) return undefined
  // Passed by somebody else, who knows what it is.
  if (file.startsWith('/dev/fdset/')) return undefined
  if (Number(below.image['virtual-size']) !== sizeBytes) return undefined
  return { file, driver: below.drv, sizeBytes, passed }
}

function mustBeThere({ disk }: DescribedDisk): VblkError {
  return new VblkError(
    'DESTINATION_LACKS_DISK',
    ExitCode.Refused,
    `the destination lacks ${diskName(disk)} (${disk.type}), which vblk did not attach and can't copy`,
    { hint: 'start the destination with the same -blockdev and -device arguments as the source' },
  )
}
