// SPDX-License-Identifier: GPL-2.0-or-later

import naturalCompare from 'natural-compare'
import type { WaitOptions } from '../qmp/index.ts'
import { listChildren, listProperties, peripheral, peripheralAnon, type QomChild, readProperty } from './qom.ts'
import type { Vm } from './vm.ts'

/** A bus that takes a hot-plugged PCI device. */
export interface HotplugSlot {
  /** The name that device_add takes as `bus`. */
  bus: string
  /** What occupies it, as QOM type names; empty when it is free. */
  occupants: string[]
}

/**
 * The hot-pluggable PCIe ports, sorted by name: each holds one device. Occupancy is read from the object tree, since
 * query-pci shows nothing behind a port before the guest's firmware has numbered the buses.
 */
export async function listSlots(vm: Vm, options: WaitOptions = {}): Promise<HotplugSlot[]> {
  // All at once, here and below: QEMU answers in order, and each wait for an answer costs two wake-ups.
  const [types, named, anonymous] = await Promise.all([
    vm.qmp.execute('qom-list-types', { implements: 'pcie-slot', abstract: false }, options),
    listChildren(vm, peripheral, options),
    listChildren(vm, peripheralAnon, options),
  ])
  const portTypes = new Set(types.map((type) => type.name))
  const ports = [...named, ...anonymous].filter((device) => portTypes.has(device.type))
  const slots = (await Promise.all(ports.map((port) => slotsOfPort(vm, port, options)))).flat()
  return slots.sort((a, b) => naturalCompare(a.bus, b.bus))
}

async function slotsOfPort(vm: Vm, port: QomChild, options: WaitOptions): Promise<HotplugSlot[]> {
  const [hotplug, children] = await Promise.all([
    readProperty(vm, port.path, 'hotplug', options),
    listChildren(vm, port.path, options),
  ])
  if (hotplug === false) return []
  const buses = children.filter(({ type }) => type === 'PCIE')
  return (await Promise.all(buses.map((bus) => slotOfBus(vm, bus, options)))).flat()
}

/** None for a bus that takes no hot-plugged device. */
async function slotOfBus(vm: Vm, bus: QomChild, options: WaitOptions): Promise<HotplugSlot[]> {
  const properties = (await listProperties(vm, bus.path, options)) ?? []
  if (!properties.some((property) => property.name === 'hotplug-handler')) return []
  const occupants = properties.filter((property) => property.name.startsWith('child['))
  return [{ bus: bus.name, occupants: occupants.map(({ type }) => type.replace(/^link<(.+)>$/, '$1')) }]
}
