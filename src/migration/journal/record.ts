// SPDX-License-Identifier: GPL-2.0-or-later

import * as z from 'zod/mini'
import { formatJson, parseJson } from '../../qmp/json.ts'

/**
 * How far a migration has come (docs/migration.md). A phase is written and synced before anything is done that belongs to it.
 */
export const phases = [
  'prepare',
  'prepared',
  'copy',
  'switchover',
  'handover',
  'postcopy',
  'commit',
  'moved',
  'finish',
  'rollback',
  'done',
  'rolled-back',
] as const

export type Phase = (typeof phases)[number]

const text = z.string().check(z.maxLength(4096))
const count = z.int().check(z.nonnegative())
const writeCache = z.nullable(z.enum(['writeback', 'writethrough']))
const time = z.string().check(z.regex(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/))

/** A process, so that another one with the same number isn't taken for it. */
export const processIdentity = z.strictObject({
  pid: count,
  /** In clock ticks since the boot. */
  startedAt: text,
  boot: text,
})

/** A host, so that a process or a path of it isn't taken for one of this host. */
const host = z.strictObject({
  /** machine-id(5) */
  machine: z.string().check(z.regex(/^[0-9a-f]{32}$/)),
  /** As it calls itself, to show. */
  name: text,
})

const party = z.strictObject({
  /** As the user named it, a path made absolute. */
  name: text,
  /** Null where /proc doesn't tell. */
  process: z.nullable(processIdentity),
})

const disk = z.strictObject({
  name: text,
  id: z.nullable(text),
  bus: z.nullable(text),
  addr: z.nullable(text),
  file: z.nullable(text),
  sourcePath: text,
  destinationPath: text,
  datapath: z.enum(['kernel', 'userspace', 'idle']),
  /** vblk makes it on the destination. */
  made: z.boolean(),
  /** What it was before the migration; from `commit` or `handover` on, as the source saved it. */
  writeCache: z.strictObject({ original: writeCache, current: writeCache }),
  /** The destination's image and node, for a disk whose storage goes along. */
  copy: z.optional(z.strictObject({ file: text, node: text })),
})

const side = z.enum(['source', 'destination'])
const parameter = z.union([z.string().check(z.maxLength(4096)), z.number(), z.bigint(), z.boolean()])

/** What puts migration settings back: a journal can't make vblk send anything else. */
const restoring = z.union([
  z.strictObject({
    side,
    execute: z.literal('migrate-set-capabilities'),
    arguments: z.strictObject({ capabilities: z.array(z.strictObject({ capability: text, state: z.boolean() })) }),
  }),
  z.strictObject({
    side,
    execute: z.literal('migrate-set-parameters'),
    arguments: z.record(text, parameter),
  }),
])

const recordSchema = z.strictObject({
  format: z.literal(1),
  id: z.string().check(z.regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)),
  source: party,
  destination: party,
  /** Of each side, if they are two; the names of both sides are as the source's host has them. */
  hosts: z.optional(z.strictObject({ source: host, destination: host })),
  /** The side whose host was out of reach, and vouched to be gone, when the other host decided. */
  decidedWithout: z.optional(side),
  /** The vblk that does it. */
  coordinator: z.nullable(processIdentity),
  phase: z.enum(phases),
  /** When each phase was entered, in order. */
  entered: z.array(z.strictObject({ phase: z.enum(phases), at: time })).check(z.minLength(1), z.maxLength(64)),
  /** The token: the only side that may open the disks for writing, whether the VM lives or not. */
  owner: side,
  wasRunning: z.boolean(),
  keepSource: z.boolean(),
  disks: z.array(disk).check(z.maxLength(4096)),
  restore: z.array(restoring).check(z.maxLength(16)),
  /** The folder of the migration's socket; '' while there is none. */
  channel: text,
  /** What the user asked of QEMU's migration, for the command that runs it. */
  tuning: z.optional(
    z.strictObject({
      downtimeLimitMs: z.optional(count),
      bandwidth: z.optional(count),
      autoConverge: z.optional(z.boolean()),
      multifdChannels: z.optional(count),
      multifdCompression: z.optional(text),
      postcopy: z.optional(z.boolean()),
      postcopyAfter: z.optional(count),
      datapath: z.optional(z.literal('kernel')),
    }),
  ),
  /** How long the VM stood still, once it has moved. */
  downtimeMs: z.optional(z.nullable(z.number())),
  /** And what for; null if that is not known. */
  downtimePhases: z.optional(
    z.nullable(
      z.strictObject({
        drain: z.number(),
        check: z.number(),
        save: z.number(),
        load: z.number(),
        verify: z.number(),
        start: z.number(),
      }),
    ),
  ),
  /** What became of it; null while nobody can tell. */
  outcome: z.nullable(
    z.strictObject({
      vm: z.enum(['running', 'stopped', 'lost']),
      error: z.nullable(text),
      downtimeMs: z.nullable(z.number()),
    }),
  ),
})

/** One migration, as it is on disk. */
export type MigrationRecord = z.infer<typeof recordSchema>
export type ProcessIdentity = z.infer<typeof processIdentity>
export type Host = z.infer<typeof host>
export type Party = z.infer<typeof party>

export const formatRecord = (record: MigrationRecord): string => `${formatJson(record)}\n`

/** Reads what formatRecord wrote; what isn't that, is an error that says in one line what is wrong. */
export function parseRecord(source: string): MigrationRecord | { fault: string } {
  let value: unknown
  try {
    value = parseJson(source)
  } catch (error) {
    return { fault: `not JSON: ${(error as Error).message}` }
  }
  const parsed = recordSchema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  return { fault: `${issue?.path.join('.') || 'the whole'}: ${issue?.message ?? 'invalid'}` }
}

/** Whether a migration is between two of the commands that do it in parts, where no vblk need be at work. */
export const isWaiting = ({ phase }: MigrationRecord): boolean => phase === 'prepared' || phase === 'moved'

/** Whether something is left to do for a migration. */
export const isOpen = ({ phase }: MigrationRecord): boolean => phase !== 'done' && phase !== 'rolled-back'
