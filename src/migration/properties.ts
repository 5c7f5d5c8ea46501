// SPDX-License-Identifier: GPL-2.0-or-later

import type { DiskInfo } from '../disk/info.ts'
import type { Json, WaitOptions } from '../qmp/index.ts'
import { readProperty } from '../vm/qom.ts'
import type { Vm } from '../vm/vm.ts'

/** The properties of a device that aren't at their default, as device_add takes them. */
export type DeviceProperties = Record<string, Json>

// What device_add has other names for, and what the device tells rather than takes.
const notTaken = new Set([
  'drive',
  'addr',
  'busnr',
  'vhost-active',
  'vhost-state',
  'original-write-cache',
  'current-write-cache',
])

/** Reads what a disk's device was made with, values that QEMU chose when it was made included. */
export async function readDeviceProperties(
  vm: Vm,
  disk: Pick<DiskInfo, 'path' | 'type'>,
  options: WaitOptions,
): Promise<DeviceProperties> {
  const known = await vm.qmp.execute('device-list-properties', { typename: disk.type }, options)
  const taken = known.filter(({ name, type }) => !notTaken.has(name) && !type.startsWith('child<'))
  // All at once: one after another they take seconds on a slow host.
  const values = await Promise.all(taken.map(({ name }) => readProperty(vm, disk.path, name, options)))
  const properties: DeviceProperties = {}
  for (const [index, { name, type, 'default-value': initial }] of taken.entries()) {
    const value = values[index]
    if (value === undefined || isNothing(value) || value === initial) continue
    properties[name] = type.startsWith('link<') ? lastPart(value) : value
  }
  return properties
}

function isNothing(value: Json): boolean {
  return value === '' || (Array.isArray(value) && value.length === 0)
}

/** A link reads as a path of the object tree, and is set by the object's id. */
function lastPart(value: Json): Json {
  return typeof value === 'string' ? (value.split('/').at(-1) ?? value) : value
}

// Matters of the host, and what is compared by itself with a better name.
const notCompared = new Set([
  ...['vhost', 'vhostdev', 'iothread', 'iothread-vq-mapping', 'ioeventfd', 'bootindex', 'rerror', 'werror', 'share-rw'],
  ...['write-cache', 'serial', 'num-queues'],
])

/** In which properties that a guest can see two devices differ, one text for each. */
export function propertyDifferences(source: DeviceProperties, destination: DeviceProperties): string[] {
  const names = new Set([...Object.keys(source), ...Object.keys(destination)])
  return [...names]
    .filter((name) => !notCompared.has(name) && source[name] !== destination[name])
    .map((name) => `${name} is ${show(destination[name])}, not ${show(source[name])}`)
}

function show(value: Json | undefined): string {
  return value === undefined ? 'at its default' : JSON.stringify(value)
}
