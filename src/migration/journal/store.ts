// SPDX-License-Identifier: GPL-2.0-or-later

import { constants } from 'node:fs'
import { type FileHandle, mkdir, open, readdir, rename, stat, unlink } from 'node:fs/promises'
import { homedir } from 'node:os'
import path from 'node:path'
import { ExitCode, VblkError } from '../../errors.ts'
import { formatRecord, isOpen, type MigrationRecord, parseRecord } from './record.ts'

/** Where records are kept. What `write` has returned from is there after a crash of everything. */
export interface JournalStore {
  write(record: MigrationRecord): Promise<void>
  /** All records, oldest first. Throws VblkError for one that can't be trusted: it may be of a VM in danger. */
  list(): Promise<MigrationRecord[]>
  /** Forgets the oldest of those that have come to their end, so that the history doesn't grow without bound. */
  prune(): Promise<void>
}

const suffix = '.json'
const mostBytes = 4 << 20
const mostEnded = 500

/** The folder for records: $VBLK_STATE_DIR, else /var/lib/vblk for root and the user's state folder for others. */
export function stateDir(): string {
  const { VBLK_STATE_DIR: own, XDG_STATE_HOME: xdg } = process.env
  if (own) return path.resolve(own)
  if (process.getuid?.() === 0) return '/var/lib/vblk'
  return path.join(xdg || path.join(homedir(), '.local/state'), 'vblk')
}

/**
 * One file for each migration, in a folder that only its owner can enter. A file is replaced in one step, by a copy that
 * is on disk already: whoever reads finds the old record or the new one.
 */
export class FileStore implements JournalStore {
  readonly #dir: string
  readonly #mostEnded: number

  constructor(dir = path.join(stateDir(), 'migrations'), keep = mostEnded) {
    this.#dir = dir
    this.#mostEnded = keep
  }

  /** Throws VblkError (exit code 4). */
  async write(record: MigrationRecord): Promise<void> {
    const file = path.join(this.#dir, record.id + suffix)
    const next = `${file}.${process.pid}.new`
    try {
      const content = formatRecord(record)
      const again = parseRecord(content)
      if ('fault' in again) throw new Error(`a record that could not be read again: ${again.fault}`)
      await mkdir(this.#dir, { recursive: true, mode: 0o700 })
      await this.#requirePrivate()
      await withFile(next, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC, async (handle) => {
        await handle.writeFile(content)
        await handle.sync()
      })
      await rename(next, file)
      await withFile(this.#dir, constants.O_RDONLY | constants.O_DIRECTORY, (handle) => handle.sync())
    } catch (cause) {
      await unlink(next).catch(() => {})
      if (cause instanceof VblkError) throw cause
      throw new VblkError(
        'JOURNAL_NOT_WRITTEN',
        ExitCode.HostLacks,
        `the migration's journal can't be written: ${(cause as Error).message}`,
        { hint: 'set VBLK_STATE_DIR to a folder of your own that outlives a reboot', cause },
      )
    }
  }

  async list(): Promise<MigrationRecord[]> {
    let names: string[]
    try {
      names = await readdir(this.#dir)
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return []
      throw this.#untrusted(this.#dir, (cause as Error).message, cause)
    }
    await this.#requirePrivate()
    const records: MigrationRecord[] = []
    for (const name of names.filter((each) => each.endsWith(suffix))) records.push(await this.#read(name))
    return records.sort((a, b) => (startOf(a) < startOf(b) ? -1 : 1))
  }

  /** Throws what `list` throws. */
  async prune(): Promise<void> {
    const ended = (await this.list()).filter((record) => !isOpen(record))
    for (const { id } of ended.slice(0, Math.max(0, ended.length - this.#mostEnded))) {
      // Another vblk may do the same at this moment.
      await unlink(path.join(this.#dir, id + suffix)).catch(() => {})
    }
  }

  async #read(name: string): Promise<MigrationRecord> {
    const file = path.join(this.#dir, name)
    let content: string
    try {
      content = await withFile(file, constants.O_RDONLY | constants.O_NONBLOCK, async (handle) => {
        const { size, uid, mode } = await handle.stat()
        if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw new Error('not a regular file')
        if (uid !== process.getuid?.() || (mode & 0o022) !== 0) throw new Error('others can write it')
        if (size > mostBytes) throw new Error(`longer than ${mostBytes} bytes`)
        return await handle.readFile('utf8')
      })
    } catch (cause) {
      throw this.#untrusted(file, (cause as Error).message, cause)
    }
    const record = parseRecord(content)
    if ('fault' in record) throw this.#untrusted(file, record.fault)
    if (record.id + suffix !== name) throw this.#untrusted(file, `it is the record of ${record.id}`)
    return record
  }

  async #requirePrivate(): Promise<void> {
    const { uid, mode } = await stat(this.#dir)
    if (uid === process.getuid?.() && (mode & 0o022) === 0) return
    throw this.#untrusted(this.#dir, 'others can write it')
  }

  #untrusted(file: string, why: string, cause?: unknown): VblkError {
    return new VblkError('JOURNAL_UNTRUSTED', ExitCode.Unknown, `the migration journal ${file} can't be used: ${why}`, {
      hint: 'look at it, and move it away once you know which QEMU may have the disks',
      cause,
    })
  }
}

const startOf = ({ entered }: MigrationRecord): string => entered[0]?.at ?? ''

async function withFile<T>(file: string, flags: number, use: (handle: FileHandle) => Promise<T>): Promise<T> {
  const handle = await open(file, flags | constants.O_NOFOLLOW, 0o600)
  try {
    return await use(handle)
  } finally {
    await handle.close()
  }
}
