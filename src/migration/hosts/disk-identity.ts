// SPDX-License-Identifier: GPL-2.0-or-later
// By what a disk is known on every host that has it.

import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { constants, type Stats } from 'node:fs'
import { open, readFile, stat } from 'node:fs/promises'
import { promisify } from 'node:util'
import type { DiskIdentity } from './protocol.ts'

const run = promisify(execFile)

/** File systems that several hosts mount, each seeing what the others write. */
const shared = new Set(['nfs', 'nfs4', 'ceph', 'fuse.glusterfs', 'lustre'])

const chunkBytes = 4096
const probeBytes = 64 << 10

/**
 * What this host knows of a disk, or in words why that can't be told. `exclusively` also finds out whether this host has the
 * block device in use for itself.
 */
export async function identifyDisk(file: string, exclusively = false): Promise<DiskIdentity | { fault: string }> {
  try {
    const stats = await stat(file)
    if (exclusively && stats.isBlockDevice()) await requireUnclaimed(file)
    const known = stats.isBlockDevice() ? await ofBlockDevice(stats) : await ofFile(stats)
    if ('fault' in known) return known
    return { ...known, content: await probe(file, known.sizeBytes) }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return { fault: 'there is no such file' }
    return { fault: code === 'EBUSY' ? 'the host itself uses it: mounted, swap, or part of another device' : message }
  }
}

type Known = Omit<DiskIdentity, 'content'>

async function requireUnclaimed(file: string): Promise<void> {
  const handle = await open(file, constants.O_RDONLY | constants.O_EXCL)
  await handle.close()
}

async function ofBlockDevice({ rdev }: Stats): Promise<Known | { fault: string }> {
  // Linux's new_encode_dev: 12 bits of major in the middle, 20 bits of minor around them.
  const major = (rdev >>> 8) & 0xfff
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00)
  const read = async (attribute: string) =>
    (await readFile(`/sys/dev/block/${major}:${minor}/${attribute}`, 'utf8').catch(() => '')).trim()
  const names = await Promise.all(['wwid', 'device/wwid', 'dm/uuid'].map(read))
  // Other names, like a t10 one or a serial, may be the same for disks that are not.
  const id = names.find((name) => /^(uuid|eui|naa|nvme)\.\S|^(LVM|mpath)-\S/.test(name))
  if (id === undefined) return { fault: 'it has no WWN or UUID that would tell whether another host has the same' }
  return {
    kind: 'block',
    sizeBytes: Number(await read('size')) * 512,
    sectorBytes: Number(await read('queue/logical_block_size')),
    readOnly: (await read('ro')) === '1',
    id,
  }
}

async function ofFile(stats: Stats): Promise<Known | { fault: string }> {
  if (!stats.isFile()) return { fault: 'it is neither a regular file nor a block device' }
  const mount = findMount(await readFile('/proc/self/mountinfo', 'utf8'), stats.dev)
  if (mount === undefined) return { fault: 'its file system is not known' }
  if (!shared.has(mount.type)) return { fault: `it is on ${mount.type}, which no two hosts share` }
  const id = `${mount.type} ${mount.source} inode ${stats.ino}`
  return { kind: 'file', sizeBytes: stats.size, sectorBytes: 1, readOnly: false, id }
}

/** The type and the source of the file system with that device number, by the text of /proc/self/mountinfo (proc(5)). */
export function findMount(mountinfo: string, dev: number): { type: string; source: string } | undefined {
  const number = `${(dev >>> 8) & 0xfff}:${(dev & 0xff) | ((dev >>> 12) & 0xfff00)}`
  for (const line of mountinfo.split('\n')) {
    const [before = '', after = ''] = line.split(' - ')
    const [type, source] = after.split(' ')
    if (before.split(' ')[2] === number && type !== undefined && source !== undefined) return { type, source }
  }
  return undefined
}

/** Reads past this host's cache, which knows nothing of what other hosts write. */
async function probe(file: string, sizeBytes: number): Promise<string[]> {
  const chunks = Math.floor(Math.min(sizeBytes, probeBytes) / chunkBytes)
  const last = Math.floor(sizeBytes / chunkBytes) - chunks
  const parts = await Promise.all([0, last].map((at) => readDirect(file, at, chunks)))
  return parts.flatMap((data) =>
    Array.from({ length: Math.floor(data.length / chunkBytes) }, (_, index) => {
      const chunk = data.subarray(index * chunkBytes, (index + 1) * chunkBytes)
      return createHash('sha256').update(chunk).digest('base64')
    }),
  )
}

/** Node has no aligned buffers, without which the kernel refuses O_DIRECT. */
async function readDirect(file: string, skip: number, count: number): Promise<Buffer> {
  if (count === 0) return Buffer.alloc(0)
  const operands = [`if=${file}`, `bs=${chunkBytes}`, `skip=${skip}`, `count=${count}`, 'iflag=direct', 'status=none']
  const { stdout } = await run('dd', operands, { encoding: 'buffer', maxBuffer: 2 * probeBytes, timeout: 10_000 })
  return stdout
}
