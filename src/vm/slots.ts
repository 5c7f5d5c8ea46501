// SPDX-License-Identifier: GPL-2.0-or-later

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
  const types = await vm.qmp.execute('qom-list-types', { implements: 'pcie-slot', abstract: false }, options)
  const portTypes = new Set(types.map((type) => type.name))
  const devices = [
    ...(await listChildren(vm, peripheral, options)),
    ...(await listChildren(vm, peripheralAnon, options)),
  ]
  const slots: HotplugSlot[] = []
  for (const port of devices.filter((device) => portTypes.has(device.type))) {
    slots.push(...(await slotsOfPort(vm, port, options)))
  }
  return slots.sort((a, b) => a.bus.localeCompare(b.bus, 'en', { numeric: true }))
}

async function slotsOfPort(vm: Vm, port: QomChild, options: WaitOptions): Promise<HotplugSlot[]> {
  if ((await readProperty(vm, port.path, 'hotplug', options)) === false) return []
  const slots: HotplugSlot[] = []
  for (const bus of await listChildren(vm, port.path, options)) {
    if (bus.type !== 'PCIE') continue
    const properties = (await listProperties(vm, bus.path, options)) ?? []
    if (!properties.some((property) => property.name === 'hotplug-handler')) continue
    const occupants = properties.filter((property) => property.name.startsWith('child['))
    slots.push({ bus: bus.name, occupants: occupants.map(({ type }) => type.replace(/^link<(.+)>$/, '$1')) })
  }
  return slots
}
