// SPDX-License-Identifier: GPL-2.0-or-later
// Writes src/qmp/schema.ts: the types that QEMU's own schema (query-qmp-schema, introspect.json) gives the commands and events in
// use. For another command, add its name below and run it again.
//
//   node --import tsx script/qapi.ts

import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { top } from '../test/lab/setup/paths.ts'

interface Member {
  name: string
  type: string
  /** Present for an optional one. */
  default?: unknown
}

/** One entry of the schema; QEMU names types by numbers there, so that nobody depends on their names. */
type Entry = { name: string } & (
  | { 'meta-type': 'builtin'; 'json-type': string }
  | { 'meta-type': 'enum'; members: { name: string }[] }
  | { 'meta-type': 'array'; 'element-type': string }
  | { 'meta-type': 'alternate'; members: { type: string }[] }
  | { 'meta-type': 'object'; members: Member[]; tag?: string; variants?: { case: string; type: string }[] }
  | { 'meta-type': 'command'; 'arg-type': string; 'ret-type': string; 'allow-oob'?: boolean }
  | { 'meta-type': 'event'; 'arg-type': string }
)

const commands = [
  ...['qmp_capabilities', 'query-version', 'query-status', 'query-name', 'qom-list', 'qom-get', 'qom-set'],
  ...['qom-list-types', 'device-list-properties', 'query-block', 'query-blockstats', 'query-named-block-nodes'],
  ...['blockdev-add', 'block_resize', 'blockdev-del', 'blockdev-set-active', 'device_add', 'device_del'],
  ...['block_set_io_throttle', 'add-fd', 'remove-fd', 'query-fdsets', 'query-yank', 'yank', 'stop', 'cont', 'quit'],
  ...['system_reset', 'migrate', 'migrate-incoming', 'migrate-start-postcopy'],
  ...['migrate-continue', 'migrate-pause', 'migrate-recover', 'migrate_cancel', 'query-migrate'],
  ...['query-migrate-capabilities', 'migrate-set-capabilities', 'query-migrate-parameters'],
  ...['migrate-set-parameters', 'x-query-virtio-status', 'nbd-server-start', 'nbd-server-stop', 'block-export-add'],
  ...['blockdev-mirror', 'block-job-cancel', 'query-jobs', 'job-dismiss'],
]
const events = [...['DEVICE_DELETED', 'DEVICE_UNPLUG_GUEST_ERROR', 'MIGRATION', 'STOP', 'RESUME', 'RESET', 'SHUTDOWN']]
/** Of the block drivers, those in use: all of them are thousands of lines. */
const drivers = new Set(['raw', 'file', 'host_device', 'nbd'])

const builtin: Record<string, string> = {
  ...{ string: 'string', number: 'number', int: 'QapiInt', boolean: 'boolean', null: 'null', value: 'Json' },
}

/** The schema of the distribution's QEMU, the one in the lab's root. */
export function readSchema(): Entry[] {
  const requests = ['qmp_capabilities', 'query-qmp-schema', 'quit'].map((execute) => JSON.stringify({ execute }))
  const argv = ['qemu-system-x86_64', '-machine', 'none', '-nodefaults', '-display', 'none', '-qmp', 'stdio']
  const options = { input: requests.join('\n'), encoding: 'utf8', maxBuffer: 64 << 20 } as const
  const replies = execFileSync(join(top, 'script/in-root'), argv, options).split('\n')
  for (const line of replies) {
    const { return: value } = line === '' ? {} : JSON.parse(line)
    if (Array.isArray(value)) return value
  }
  throw new Error('QEMU did not tell its schema')
}

/** The types of the commands and events in use, as source text. */
function typesOf(schema: Entry[]): string {
  const byName = new Map(schema.map((entry) => [entry.name, entry]))
  /** By the schema's name: ours, and the type. Numbered by first use, so that what is not in use changes nothing here. */
  const declared = new Map<string, { id: string; body: string }>()

  const entryOf = (name: string): Entry => {
    const entry = byName.get(name)
    if (entry === undefined) throw new Error(`the schema has no ${name}`)
    return entry
  }
  const literals = (names: string[]) => names.map((name) => `'${name}'`).join(' | ') || 'never'
  const fields = (members: Member[]) =>
    members.map((member) => `'${member.name}'${'default' in member ? '?' : ''}: ${typeOf(member.type)}`).join('; ')

  function typeOf(name: string): string {
    const entry = entryOf(name)
    switch (entry['meta-type']) {
      case 'builtin':
        return builtin[entry['json-type']] ?? 'Json'
      case 'enum':
        return `(${literals(entry.members.map((member) => member.name))})`
      case 'array':
        return `${typeOf(entry['element-type'])}[]`
      case 'alternate':
        return `(${entry.members.map((member) => typeOf(member.type)).join(' | ')})`
      default:
        return declare(name)
    }
  }

  /** An object gets a name of its own: some contain themselves. */
  function declare(name: string): string {
    const known = declared.get(name)
    if (known !== undefined) return known.id
    const type = { id: `T${declared.size + 1}`, body: '' }
    declared.set(name, type)
    const entry = entryOf(name)
    if (entry['meta-type'] !== 'object') throw new Error(`${name} is no object`)
    const { members, tag, variants = [] } = entry
    const plain = members.length === 0 ? 'Record<string, never>' : `{ ${fields(members)} }`
    type.body = variants.length === 0 ? plain : union()
    return type.id

    function union(): string {
      const isDriver = variants.some((variant) => variant.case === 'host_device')
      const cases = variants.filter((variant) => !isDriver || drivers.has(variant.case))
      const common = fields(members.filter((member) => member.name !== tag))
      return cases.map((variant) => `({ '${tag}': '${variant.case}'; ${common} }${more(variant.type)})`).join(' | ')
    }

    /** What a variant adds, if anything. */
    function more(type: string): string {
      const variant = entryOf(type)
      return variant['meta-type'] === 'object' && variant.members.length === 0 ? '' : ` & ${typeOf(type)}`
    }
  }

  const entries = <M extends Entry['meta-type']>(names: string[], meta: M) =>
    names.map((name) => {
      const entry = entryOf(name)
      if (entry['meta-type'] !== meta) throw new Error(`${name} is no ${meta}`)
      return entry as Extract<Entry, { 'meta-type': M }>
    })
  const commandLines = entries(commands, 'command').map(
    (entry) => `  '${entry.name}': { arguments: ${typeOf(entry['arg-type'])}; returns: ${typeOf(entry['ret-type'])} }`,
  )
  const eventLines = entries(events, 'event').map((entry) => `  ${entry.name}: ${typeOf(entry['arg-type'])}`)
  const outOfBand = entries(commands, 'command').filter((entry) => entry['allow-oob'])
  return [
    '// SPDX-License-Identifier: GPL-2.0-or-later',
    "// Made by script/qapi.ts from QEMU's query-qmp-schema: don't edit. QEMU doesn't name the types.",
    '',
    "import type { Json, QapiInt } from './json.ts'",
    '',
    ...[...declared.values()].map(({ id, body }) => `type ${id} = ${body}`),
    '',
    `export interface SchemaCommands {\n${commandLines.join('\n')}\n}`,
    '',
    `export interface SchemaEvents {\n${eventLines.join('\n')}\n}`,
    '',
    `export type SchemaOutOfBand = ${literals(outOfBand.map(({ name }) => name))}`,
    '',
  ].join('\n')
}

export const schemaFile = join(top, 'src/qmp/schema.ts')

/** The same in the project's format. */
export function generate(schema: Entry[]): string {
  const argv = ['format', '--stdin-file-path=schema.ts']
  return execFileSync(join(top, 'node_modules/.bin/biome'), argv, {
    cwd: top,
    input: typesOf(schema),
    encoding: 'utf8',
  })
}

if (import.meta.filename === process.argv[1]) {
  writeFileSync(schemaFile, generate(readSchema()))
}
