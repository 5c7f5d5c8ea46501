// SPDX-License-Identifier: GPL-2.0-or-later
// What vblk asks `vblk host-agent` on another host, one JSON document a line. Either side takes the other's words for hostile:
// what isn't exactly as here is refused.

import * as z from 'zod/mini'
import { processIdentity } from '../journal/record.ts'

/** Raised with every change of what follows, or of the journal's records: both sides must have the same. */
export const protocolVersion = 4

/** Longest line; a journal's record is the longest part of one. */
export const maxLineBytes = 8 << 20

/** How often a caller lets the agent know that it is there, and how long the agent waits for that, in milliseconds. */
export const pingMs = 5000
export const silenceMs = 30_000

const path = z.string().check(z.minLength(1), z.maxLength(4096), z.regex(/^\/[^\0]*$/))
const text = z.string().check(z.maxLength(4096))
const count = z.int().check(z.nonnegative())
const recordText = z.string().check(z.maxLength(4 << 20))

/** The agent's first line. */
export const hello = z.strictObject({
  'vblk-host-agent': z.int(),
  machine: z.string().check(z.regex(/^[0-9a-f]{32}$/)),
  name: z.string().check(z.regex(/^[\w.-]{1,255}$/)),
})

/** What tells two hosts' disks apart. */
const diskIdentity = z.strictObject({
  kind: z.enum(['file', 'block']),
  sizeBytes: count,
  /** Bytes of a logical block; 1 for a file. */
  sectorBytes: count,
  readOnly: z.boolean(),
  /** The same on every host that has this very disk, and on no other disk. */
  id: text,
  /** Hashes of blocks at its beginning and its end. */
  content: z.array(text).check(z.maxLength(64)),
})
export type DiskIdentity = z.infer<typeof diskIdentity>

const fault = z.strictObject({ fault: text })
const figures = z.union([z.strictObject({ running: count, inflight: count }), z.strictObject({ unknown: text })])

/** Each request's arguments and answer. */
export const operations = {
  /** Finds the process that serves a monitor, and locks its VM against every other vblk of that host. */
  look: {
    request: z.strictObject({ path }),
    answer: z.strictObject({ process: z.nullable(processIdentity), unlocked: z.nullable(text) }),
  },
  /** Whether a process has certainly ended. */
  ended: { request: z.strictObject({ process: processIdentity }), answer: z.boolean() },
  /** The same, after waiting for it a while. */
  awaitEnd: { request: z.strictObject({ process: processIdentity }), answer: z.boolean() },
  /** Runs a program with a monitor's path as its only argument, unless somebody serves it already; answered once it is served. */
  start: { request: z.strictObject({ program: path, path, timeoutMs: count }), answer: z.boolean() },
  /** What the kernel says of descriptors of the process that was looked at. */
  fdinfo: { request: z.strictObject({ fds: z.array(count).check(z.maxLength(4096)) }), answer: z.array(figures) },
  /** What a disk's file is there. */
  disk: { request: z.strictObject({ file: path }), answer: z.union([diskIdentity, fault]) },
  /** Makes a socket's folder for the stream, for the user of the process that was looked at. */
  channel: { request: z.strictObject({}), answer: z.strictObject({ path }) },
  /** Writes a record into that host's journal; answered once it is on its disk. */
  write: { request: z.strictObject({ record: recordText }), answer: z.null() },
  /** That host's record of a migration. */
  record: { request: z.strictObject({ id: text }), answer: z.nullable(recordText) },
  /** The open migration of the process that was looked at, in that host's journal. */
  open: { request: z.strictObject({}), answer: z.nullable(text) },
  /** The caller is still there. */
  ping: { request: z.strictObject({}), answer: z.null() },
} as const

export type Operation = keyof typeof operations
export type RequestOf<O extends Operation> = z.infer<(typeof operations)[O]['request']>
export type AnswerOf<O extends Operation> = z.infer<(typeof operations)[O]['answer']>

export const request = z.strictObject({ id: count, do: z.string(), with: z.unknown() })
export const reply = z.union([
  z.strictObject({ id: count, answer: z.unknown() }),
  z.strictObject({
    id: count,
    error: z.strictObject({ code: text, exitCode: count, message: text, hint: z.nullable(text) }),
  }),
])
