// SPDX-License-Identifier: GPL-2.0-or-later

import { type Json, type ObjectPropertyInfo, QmpCommandError, type WaitOptions } from '../qmp/index.ts'
import type { Vm } from './vm.ts'

/** Where devices with an id live; a device without one is a child of the other. */
export const peripheral = '/machine/peripheral'
export const peripheralAnon = '/machine/peripheral-anon'

/** A child in QEMU's object tree. */
export interface QomChild {
  name: string
  path: string
  /** The child's type, like 'pcie-root-port'. */
  type: string
}

/** Lists an object's properties; undefined when there is no such object. */
export async function listProperties(
  vm: Vm,
  path: string,
  options: WaitOptions = {},
): Promise<ObjectPropertyInfo[] | undefined> {
  return await unlessRefused(vm.qmp.execute('qom-list', { path }, options))
}

/** Lists the children of an object, in no particular order; none when there is no such object. */
export async function listChildren(vm: Vm, path: string, options: WaitOptions = {}): Promise<QomChild[]> {
  const children: QomChild[] = []
  for (const { name, type } of (await listProperties(vm, path, options)) ?? []) {
    const childType = /^child<(.+)>$/.exec(type)?.[1]
    if (childType !== undefined) children.push({ name, path: `${path}/${name}`, type: childType })
  }
  return children
}

/** The device with an id; undefined when there is none. */
export async function findDevice(vm: Vm, id: string, options: WaitOptions = {}): Promise<QomChild | undefined> {
  return (await listChildren(vm, peripheral, options)).find((child) => child.name === id)
}

/** Reads a property; undefined when the object doesn't have it. */
export async function readProperty(
  vm: Vm,
  path: string,
  property: string,
  options: WaitOptions = {},
): Promise<Json | undefined> {
  return await unlessRefused(vm.qmp.execute('qom-get', { path, property }, options))
}

async function unlessRefused<T>(reply: Promise<T>): Promise<T | undefined> {
  try {
    return await reply
  } catch (error) {
    if (error instanceof QmpCommandError) return undefined
    throw error
  }
}
