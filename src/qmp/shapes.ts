// SPDX-License-Identifier: GPL-2.0-or-later

import type { Json } from './json.ts'
import type { CommandName } from './protocol.ts'

/** Whether a value has a shape. */
type Shape = (value: Json | undefined) => boolean

const text: Shape = (value) => typeof value === 'string'
const flag: Shape = (value) => typeof value === 'boolean'
const integer: Shape = (value) => typeof value === 'bigint' || Number.isInteger(value)
const optional =
  (shape: Shape): Shape =>
  (value) =>
    value === undefined || shape(value)
const listOf =
  (shape: Shape): Shape =>
  (value) =>
    Array.isArray(value) && value.every((item) => shape(item))
const object =
  (fields: Record<string, Shape>): Shape =>
  (value) =>
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    // Own fields alone: a peer's `{"__proto__": …}` must not stand in for them.
    Object.entries(fields).every(([name, shape]) => shape(Object.hasOwn(value, name) ? value[name] : undefined))

const blockDevice = object({
  'node-name': optional(text),
  ro: flag,
  cache: object({ writeback: flag, direct: flag, 'no-flush': flag }),
  image: object({ filename: text, 'virtual-size': integer }),
})
const property = object({ name: text, type: text })
const counters = ['rd', 'wr', 'flush', 'unmap'].flatMap((op) => [
  [`${op}_operations`, integer] as const,
  [`failed_${op}_operations`, integer] as const,
])
const times = ['rd', 'wr', 'flush'].map((op) => [`${op}_total_time_ns`, integer] as const)

/** What QAPI promises of the replies that are read: the fields in use (see protocol.ts). */
const shapes: Partial<Record<CommandName, Shape>> = {
  'query-status': object({ running: flag, status: text }),
  'query-name': object({ name: optional(text) }),
  'qom-list': listOf(property),
  'qom-list-types': listOf(object({ name: text, abstract: optional(flag), parent: optional(text) })),
  'device-list-properties': listOf(property),
  'query-block': listOf(object({ device: text, qdev: optional(text), inserted: optional(blockDevice) })),
  'query-blockstats': listOf(
    object({
      qdev: optional(text),
      stats: object({ rd_bytes: integer, wr_bytes: integer, ...Object.fromEntries([...counters, ...times]) }),
    }),
  ),
  'query-named-block-nodes': listOf(object({ 'node-name': optional(text) })),
  'query-migrate': object({
    status: optional(text),
    'error-desc': optional(text),
    'blocked-reasons': optional(listOf(text)),
  }),
  'query-migrate-capabilities': listOf(object({ capability: text, state: flag })),
  'query-migrate-parameters': object({}),
  'add-fd': object({ 'fdset-id': integer, fd: integer }),
  'query-fdsets': listOf(object({ 'fdset-id': integer, fds: listOf(object({ fd: integer, opaque: optional(text) })) })),
  'x-query-virtio-status': object({ status: object({ statuses: listOf(text) }) }),
}

/** Whether a command's reply is what QAPI promises. Commands whose reply nobody reads may return anything. */
export function hasPromisedShape(command: CommandName, reply: Json): boolean {
  return shapes[command]?.(reply) ?? true
}
