// SPDX-License-Identifier: GPL-2.0-or-later

import { readFile, realpath, stat } from 'node:fs/promises'
import net from 'node:net'
import path from 'node:path'
import { ExitCode } from '../errors.ts'
import { QmpConnectError } from './errors.ts'
import { type WaitOptions, waitFor } from './waiting.ts'

// sun_path of struct sockaddr_un (unix(7)), without the terminating zero.
const maxPathBytes = 107

/**
 * Connects to a unix stream socket. Throws QmpConnectError that tells a missing path, a path that isn't a socket, a dead
 * socket, a missing permission and a full queue apart.
 */
export async function openSocket(socketPath: string, options: WaitOptions): Promise<net.Socket> {
  if (Buffer.byteLength(socketPath) > maxPathBytes) {
    throw new QmpConnectError(
      'SOCKET_PATH_TOO_LONG',
      ExitCode.Usage,
      `${socketPath} is longer than the ${maxPathBytes} bytes that a socket's path can have`,
      { hint: 'change to its folder and give the relative path' },
    )
  }
  await checkIsSocket(socketPath)
  const socket = net.connect({ path: socketPath })
  try {
    await waitFor(connected(socket), `a connection to ${socketPath}`, options)
  } catch (error) {
    socket.destroy()
    throw isErrno(error) ? explainErrno(socketPath, error) : error
  }
  return socket
}

function connected(socket: net.Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('error', reject)
    socket.once('connect', () => {
      socket.off('error', reject)
      resolve()
    })
  })
}

async function checkIsSocket(socketPath: string): Promise<void> {
  let isSocket: boolean
  try {
    isSocket = (await stat(socketPath)).isSocket()
  } catch (error) {
    throw isErrno(error) ? explainErrno(socketPath, error) : error
  }
  if (!isSocket) {
    throw new QmpConnectError('NOT_A_SOCKET', ExitCode.NotFound, `${socketPath} is not a socket`, {
      hint: "give the socket of QEMU's -qmp or -mon mode=control option",
    })
  }
}

function isErrno(error: unknown): error is NodeJS.ErrnoException {
  return typeof error === 'object' && error !== null && 'code' in error && 'syscall' in error
}

function explainErrno(socketPath: string, cause: NodeJS.ErrnoException): QmpConnectError {
  switch (cause.code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new QmpConnectError('NO_SUCH_SOCKET', ExitCode.NotFound, `${socketPath}: no such socket`, { cause })
    case 'ECONNREFUSED':
      return new QmpConnectError('SOCKET_DEAD', ExitCode.NotFound, `${socketPath}: nobody listens on this socket`, {
        hint: 'its QEMU is gone, or was started without server=on',
        cause,
      })
    case 'EACCES':
    case 'EPERM':
      return new QmpConnectError('SOCKET_FORBIDDEN', ExitCode.HostLacks, `${socketPath}: permission denied`, {
        hint: 'run vblk as root or as the user that runs this QEMU',
        cause,
      })
    case 'EAGAIN':
      return busy(socketPath, cause)
    default:
      return new QmpConnectError(
        'SOCKET_UNUSABLE',
        ExitCode.NotFound,
        `${socketPath}: cannot connect: ${cause.message}`,
        { cause },
      )
  }
}

/** A monitor serves one client at a time; the next one is queued in the kernel and hears nothing. */
export function busy(socketPath: string, cause?: unknown): QmpConnectError {
  return new QmpConnectError('VM_BUSY', ExitCode.Busy, `${socketPath} is busy: another client holds this QMP socket`, {
    hint: 'wait for the other client (another vblk?) to finish, or give the VM a second -qmp socket',
    cause,
  })
}

/** How the far side treats the connections to a listening socket. */
export interface Backlog {
  /** Connections that the server has taken. */
  accepted: number
  /** Connections that wait in the kernel for the server to take them. */
  waiting: number
}

/**
 * Counts a unix socket's connections by /proc/net/unix, whose St column is 03 for an accepted connection and 02 for one
 * that its server hasn't accepted yet (net/unix/af_unix.c, unix_seq_show). Undefined when the file doesn't show the
 * socket: another network namespace, or a server that bound it under another name.
 */
export async function readBacklog(socketPath: string): Promise<Backlog | undefined> {
  let table: string
  try {
    table = await readFile('/proc/net/unix', 'utf8')
  } catch {
    return undefined
  }
  const resolved = await realpath(socketPath).catch(() => path.resolve(socketPath))
  return countConnections(table, new Set([socketPath, path.resolve(socketPath), resolved]))
}

/** Counts in the text of /proc/net/unix; a relative name that a server bound matches by its end. */
export function countConnections(table: string, names: ReadonlySet<string>): Backlog | undefined {
  const backlog: Backlog = { accepted: 0, waiting: 0 }
  let known = false
  for (const line of table.split('\n')) {
    // Num: RefCount Protocol Flags Type St Inode Path
    const match = /^[0-9a-f]+: [0-9A-F]+ [0-9A-F]+ [0-9A-F]+ [0-9A-F]+ ([0-9A-F]+) +\d+ (.+)$/.exec(line)
    const [, state, bound] = match ?? []
    if (bound === undefined || !isSameName(bound, names)) continue
    known = true
    if (state === '03') backlog.accepted++
    else if (state === '02') backlog.waiting++
  }
  return known ? backlog : undefined
}

function isSameName(bound: string, names: ReadonlySet<string>): boolean {
  if (names.has(bound)) return true
  if (bound.startsWith('/') || bound.startsWith('@')) return false
  const end = `/${bound.replace(/^(\.\/)+/, '')}`
  return [...names].some((name) => name.endsWith(end))
}
