// SPDX-License-Identifier: GPL-2.0-or-later
import { readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { DEVICE_PATH } from './vhost-blk.ts'

/** A disk that a process has open: one descriptor of /dev/vhost-blk, and what its fdinfo says (kmod/uapi/vhost_blk.h). */
export interface OpenDisk {
  fd: number
  /** Empty if none was set. */
  serial: string
  /** Queues that the kernel is serving. */
  runningQueues: number
  /** Completed by the kernel since open. */
  requests: number
  errors: number
}

/** A process that holds /dev/vhost-blk open. */
export interface DeviceUser {
  pid: number
  command: string
  disks: OpenDisk[]
}

/** The processes that hold /dev/vhost-blk open, of those that this user may inspect. */
export async function findDeviceUsers(): Promise<DeviceUser[]> {
  const users: DeviceUser[] = []
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const fds = await openFds(name)
    if (fds.length === 0) continue
    const disks = await Promise.all(fds.map((fd) => readOpenDisk(name, fd)))
    users.push({ pid: Number(name), command: await commandOf(name), disks: disks.filter((disk) => disk !== undefined) })
  }
  return users
}

/** A process may end, or not be ours to look at, at any moment: then it has no descriptors. */
async function openFds(pid: string): Promise<number[]> {
  const dir = join('/proc', pid, 'fd')
  const names = await readdir(dir).catch(() => [])
  const targets = await Promise.all(names.map((name) => readlink(join(dir, name)).catch(() => '')))
  return names.filter((_, index) => targets[index] === DEVICE_PATH).map(Number)
}

async function commandOf(pid: string): Promise<string> {
  const text = await readFile(join('/proc', pid, 'comm'), 'utf8').catch(() => '')
  return text.trimEnd()
}

async function readOpenDisk(pid: string, fd: number): Promise<OpenDisk | undefined> {
  const text = await readFile(join('/proc', pid, 'fdinfo', String(fd)), 'utf8').catch(() => undefined)
  return text === undefined ? undefined : parseFdinfo(fd, text)
}

/** Reads "name:<tab>value" lines; one that is missing counts as nothing. */
export function parseFdinfo(fd: number, text: string): OpenDisk {
  const values = new Map(
    text.split('\n').map((line): [string, string] => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon), line.slice(colon + 1).trim()]
    }),
  )
  const count = (name: string) => Number(values.get(`vhost-blk-${name}`) ?? 0)
  return {
    fd,
    serial: values.get('vhost-blk-serial') ?? '',
    runningQueues: count('running'),
    requests: count('reads') + count('writes') + count('flushes') + count('others'),
    errors: count('errors'),
  }
}
