// SPDX-License-Identifier: GPL-2.0-or-later

import type { DiskInfo } from '../disk/info.ts'
import { type DeviceProperties, propertyDifferences } from './properties.ts'
import { originalWriteCacheFault } from './write-cache.ts'

/** A disk and the properties of its device. */
export interface DescribedDisk {
  disk: DiskInfo
  properties: DeviceProperties
}

/**
 * In what the destination's disk differs from the source's in a way that the guest or its data would notice, one text
 * for each; none if the guest can go on with it.
 */
export function diskDifferences(source: DescribedDisk, destination: DescribedDisk, sameFile: boolean): string[] {
  const found: string[] = []
  const compare = (name: string, has: unknown, wanted: unknown) => {
    if (has !== wanted) found.push(`${name} is ${show(has)}, not ${show(wanted)}`)
  }
  const [from, to] = [source.disk, destination.disk]
  compare('size', bytes(to.sizeBytes), bytes(from.sizeBytes))
  if (!sameFile) compare('file', to.file, from.file)
  compare('read-only', to.readOnly, from.readOnly)
  compare('serial', to.serial, from.serial)
  compare('queues', to.queues, from.queues)
  compare('bus', to.bus, from.bus)
  compare('address', to.addr, from.addr)
  const original = originalWriteCacheFault(from.writeCache, to.writeCache)
  if (original !== undefined) found.push(original)
  return [...found, ...propertyDifferences(source.properties, destination.properties)]
}

function bytes(size: number | null): string | null {
  return size === null ? null : `${size} bytes`
}

function show(value: unknown): string {
  if (value === '' || value === null) return 'none'
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  return String(value)
}

/** By what a disk is found on another side. */
type Place = Pick<DiskInfo, 'id' | 'bus' | 'addr'>

/** How messages call a disk. */
export function diskName({ id, bus, addr }: Place): string {
  return id ?? `the disk at ${bus ?? '?'} ${addr ?? '?'}`
}

/** Whether a destination's disk is the counterpart of a source's: the stream goes by PCI path, people go by the id. */
export function isCounterpart(source: Place, destination: Place): boolean {
  if (source.id !== null || destination.id !== null) return source.id === destination.id
  return source.bus === destination.bus && source.addr === destination.addr
}
