// SPDX-License-Identifier: GPL-2.0-or-later

import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import path from 'node:path'
import { parse, YAMLError } from 'yaml'
import { ExitCode, VblkError } from '../errors.ts'
import { parseRate } from './size.ts'
import type { DiskRequest } from './spec.ts'

/** The disks that a VM shall have, as a file says. */
export interface StateFile {
  /** Which VM; null if the file leaves that to the command line. */
  vm: string | null
  disks: DiskRequest[]
}

const maxBytes = 1 << 20

/**
 * Reads a YAML or JSON file of the shape `{vm: VM, disks: [{id, file, …}]}`. The names of a disk's settings are those of
 * attach's flags; a relative path begins at the file's folder. Throws VblkError: exit code 3 when there is no such file, 2 when
 * it is anything else than that, with the place.
 */
export async function readStateFile(file: string): Promise<StateFile> {
  const text = await readText(file)
  let value: unknown
  try {
    // JSON is YAML. Aliases are bounded by the package, so that a small file can't become a huge value.
    value = parse(text, { strict: true, uniqueKeys: true, maxAliasCount: 100 })
  } catch (error) {
    const at = error instanceof YAMLError ? error.linePos?.[0] : undefined
    const what = (error as Error).message.split('\n')[0]?.replace(/:$/, '')
    throw bad(file, at === undefined ? `${what}` : `line ${at.line}: ${what?.replace(/ at line \d+, column \d+$/, '')}`)
  }
  try {
    return checkState(value, path.dirname(path.resolve(file)))
  } catch (error) {
    throw error instanceof Fault ? bad(file, error.message) : error
  }
}

async function readText(file: string): Promise<string> {
  try {
    // A FIFO would be waited for.
    const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      const stats = await handle.stat()
      if (!stats.isFile()) throw bad(file, 'it is no regular file')
      if (stats.size > maxBytes) throw bad(file, `it has more than ${maxBytes} bytes`)
      return await handle.readFile('utf8')
    } finally {
      await handle.close()
    }
  } catch (cause) {
    if (cause instanceof VblkError) throw cause
    const isMissing = (cause as NodeJS.ErrnoException).code === 'ENOENT'
    throw new VblkError(
      'FILE_UNREADABLE',
      isMissing ? ExitCode.NotFound : ExitCode.HostLacks,
      `can't read ${file}: ${(cause as Error).message}`,
      { cause },
    )
  }
}

/** What is wrong, and where. */
class Fault extends Error {}

const settings = {
  id: isText,
  file: isText,
  'read-only': isFlag,
  raw: isFlag,
  cache: oneOf('none', 'writeback'),
  'write-cache': oneOf('auto', 'writeback', 'writethrough'),
  datapath: oneOf('kernel', 'userspace', 'auto'),
  serial: isText,
  queues: isNumber,
  iothread: isText,
  bus: isText,
  addr: isText,
  'logical-block-size': isNumber,
  'physical-block-size': isNumber,
  discard: oneOf('unmap', 'ignore'),
  bandwidth: isSize,
  iops: isNumber,
  'pass-fd': isFlag,
} as const

function checkState(value: unknown, folder: string): StateFile {
  const { vm, disks } = objectWith(value, 'the file', ['vm', 'disks'])
  if (vm !== undefined && !isText(vm)) throw new Fault('vm is no text')
  if (!Array.isArray(disks)) throw new Fault('disks is no list')
  const requests = disks.map((disk, index) => checkDisk(disk, `disks[${index}]`, folder))
  const twice = requests.find(({ id }, index) => requests.findIndex((other) => other.id === id) !== index)
  if (twice !== undefined) throw new Fault(`the id ${twice.id} is there twice`)
  return { vm: vm ?? null, disks: requests }
}

function checkDisk(value: unknown, where: string, folder: string): DiskRequest {
  const disk = objectWith(value, where, Object.keys(settings))
  for (const [name, isValid] of Object.entries(settings)) {
    if (disk[name] === undefined) continue
    if (!isValid(disk[name])) throw new Fault(`${where}.${name} can't be ${JSON.stringify(disk[name])?.slice(0, 80)}`)
  }
  if (disk.id === undefined || disk.file === undefined)
    throw new Fault(`${where} has no ${disk.id === undefined ? 'id' : 'file'}`)
  const { id, file, serial, queues, iothread, bus, addr, iops } = disk as Partial<DiskRequest> & {
    id: string
    file: string
  }
  return {
    id,
    file: path.resolve(folder, file),
    readOnly: disk['read-only'] === true,
    raw: disk.raw === true,
    cache: (disk.cache ?? 'none') as DiskRequest['cache'],
    writeCache: (disk['write-cache'] ?? 'auto') as DiskRequest['writeCache'],
    datapath: disk.datapath as DiskRequest['datapath'],
    serial,
    queues,
    iothread,
    bus,
    addr,
    logicalBlockSize: disk['logical-block-size'] as number | undefined,
    physicalBlockSize: disk['physical-block-size'] as number | undefined,
    discard: disk.discard as DiskRequest['discard'],
    bandwidth: disk.bandwidth === undefined ? undefined : parseRate(String(disk.bandwidth)),
    iops,
    passFds: disk['pass-fd'] === true,
  }
}

function objectWith(value: unknown, where: string, names: string[]): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Fault(`${where} is no mapping`)
  const unknown = Object.keys(value).find((name) => !names.includes(name))
  if (unknown !== undefined) throw new Fault(`${where} has an unknown '${unknown}'; known are: ${names.join(', ')}`)
  return value as Record<string, unknown>
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && !value.includes('\0')
}

function isFlag(value: unknown): value is boolean {
  return typeof value === 'boolean'
}

function isNumber(value: unknown): value is number {
  return Number.isSafeInteger(value)
}

function isSize(value: unknown): value is string | number {
  try {
    return parseRate(String(value)) > 0
  } catch {
    return false
  }
}

function oneOf(...choices: string[]) {
  return (value: unknown) => typeof value === 'string' && choices.includes(value)
}

function bad(file: string, what: string): VblkError {
  return new VblkError('BAD_STATE_FILE', ExitCode.Usage, `${file}: ${what}`, {
    hint: 'see the example in: vblk apply --help',
  })
}
