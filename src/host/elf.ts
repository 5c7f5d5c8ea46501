// SPDX-License-Identifier: GPL-2.0-or-later
import { type FileHandle, open } from 'node:fs/promises'

// Figures of elf(5), for the 64-bit little-endian files that QEMU and modules are on the machines we run on.
const HEADER_SIZE = 64
const PROGRAM_HEADER_SIZE = 56
const SECTION_HEADER_SIZE = 64
const PT_NOTE = 4
const NT_GNU_BUILD_ID = 3

/** No table or section that we read is near this; a broken file must not make us allocate what it says. */
const MOST_BYTES = 1 << 20

/** The file is no ELF file of the expected kind, or is cut short. */
export class ElfError extends Error {
  override readonly name: string = 'ElfError'
}

interface Range {
  offset: number
  size: number
}

/**
 * The build id that the linker gave a program (note NT_GNU_BUILD_ID), in hex.
 * @throws ElfError if it has none or is no ELF program; an Error of node:fs if it can't be read
 */
export async function readBuildId(path: string): Promise<string> {
  return withFile(path, async (file) => {
    const header = await readHeader(file, path)
    for (const segment of await programHeaders(file, header, path)) {
      if (segment.type !== PT_NOTE) continue
      const id = findBuildId(await readRange(file, segment, path))
      if (id) return id
    }
    throw new ElfError(`${path} has no build id`)
  })
}

/**
 * The bytes of a section, like '.modinfo'.
 * @throws ElfError if there is none or it is no ELF file; an Error of node:fs if it can't be read
 */
export async function readSection(path: string, name: string): Promise<Buffer> {
  return withFile(path, async (file) => {
    const header = await readHeader(file, path)
    const count = header.readUInt16LE(60)
    const table = await readRange(file, { offset: offsetAt(header, 40), size: count * SECTION_HEADER_SIZE }, path)
    const sections = Array.from({ length: count }, (_, index) => {
      const entry = table.subarray(index * SECTION_HEADER_SIZE)
      return { name: entry.readUInt32LE(0), offset: offsetAt(entry, 24), size: offsetAt(entry, 32) }
    })
    const nameSection = sections[header.readUInt16LE(62)]
    if (!nameSection) throw new ElfError(`${path} has no section names`)
    const names = await readRange(file, nameSection, path)
    const found = sections.find((section) => stringAt(names, section.name) === name)
    if (!found) throw new ElfError(`${path} has no section ${name}`)
    return readRange(file, found, path)
  })
}

async function withFile<T>(path: string, use: (file: FileHandle) => Promise<T>): Promise<T> {
  const file = await open(path, 'r')
  try {
    if (!(await file.stat()).isFile()) throw new ElfError(`${path} is not a file`)
    return await use(file)
  } finally {
    await file.close()
  }
}

async function readHeader(file: FileHandle, path: string): Promise<Buffer> {
  const header = Buffer.alloc(HEADER_SIZE)
  const { bytesRead } = await file.read(header, 0, HEADER_SIZE, 0)
  // EI_MAG, ELFCLASS64, ELFDATA2LSB
  if (bytesRead < HEADER_SIZE || header.readUInt32BE(0) !== 0x7f454c46 || header[4] !== 2 || header[5] !== 1) {
    throw new ElfError(`${path} is no 64-bit ELF file`)
  }
  return header
}

async function programHeaders(file: FileHandle, header: Buffer, path: string) {
  const count = header.readUInt16LE(56)
  const table = await readRange(file, { offset: offsetAt(header, 32), size: count * PROGRAM_HEADER_SIZE }, path)
  return Array.from({ length: count }, (_, index) => {
    const entry = table.subarray(index * PROGRAM_HEADER_SIZE)
    return { type: entry.readUInt32LE(0), offset: offsetAt(entry, 8), size: offsetAt(entry, 32) }
  })
}

async function readRange(file: FileHandle, { offset, size }: Range, path: string): Promise<Buffer> {
  if (size > MOST_BYTES) throw new ElfError(`${path} is a broken ELF file`)
  const buffer = Buffer.alloc(size)
  const { bytesRead } = await file.read(buffer, 0, size, offset)
  if (bytesRead < size) throw new ElfError(`${path} is cut short`)
  return buffer
}

function offsetAt(buffer: Buffer, at: number): number {
  const value = Number(buffer.readBigUInt64LE(at))
  if (!Number.isSafeInteger(value)) throw new ElfError('a broken ELF file')
  return value
}

function stringAt(table: Buffer, at: number): string {
  const end = table.indexOf(0, at)
  return table.toString('latin1', at, end === -1 ? table.length : end)
}

/** Walks the notes: name size, descriptor size, type, then both padded to four bytes. */
function findBuildId(notes: Buffer): string | undefined {
  let at = 0
  while (at + 12 <= notes.length) {
    const nameSize = notes.readUInt32LE(at)
    const size = notes.readUInt32LE(at + 4)
    const type = notes.readUInt32LE(at + 8)
    const start = at + 12 + padded(nameSize)
    if (type === NT_GNU_BUILD_ID && notes.toString('latin1', at + 12, at + 12 + nameSize) === 'GNU\0') {
      const id = notes.subarray(start, start + size)
      return id.length === size && size > 0 ? id.toString('hex') : undefined
    }
    at = start + padded(size)
  }
  return undefined
}

function padded(size: number): number {
  return Math.ceil(size / 4) * 4
}
