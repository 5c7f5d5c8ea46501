// SPDX-License-Identifier: GPL-2.0-or-later
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { getSystemErrorName } from 'node:util'
import { ExitCode, VblkError } from '../errors.ts'
import { cacheDir, packageRoot } from './paths.ts'

/** The functions of native/fd/vblk_fd.c. A number below zero is a negative errno. */
interface Addon {
  open(path: string, flags: number, mode: number): number
  close(fd: number): number
  ioctl(fd: number, request: number, buffer: Buffer | undefined): number
  connect(path: string): number
  sendFds(socket: number, fds: number[]): number
  peerCredentials(socket: number): PeerCredentials | number
  copyFd(pid: number, fd: number): number
  tryLock(fd: number, exclusive: boolean): number
}

/** Who is at the other end of a unix socket: the process that connected, or that listened (SO_PEERCRED, unix(7)). */
export interface PeerCredentials {
  pid: number
  uid: number
  gid: number
}

/** In a checkout its own build comes first: the other place is what a package is made from. */
const SEARCH_PATH = [join(cacheDir, 'fd/vblk_fd.node'), join(packageRoot, 'native/fd/vblk_fd.node')]

let loaded: Addon | undefined

function addon(): Addon {
  loaded ??= loadAddon(SEARCH_PATH)
  return loaded
}

/**
 * Loads the addon from the first of the paths that exists.
 * @throws VblkError HostLacks if none does, or if it doesn't fit this Node or C library
 */
export function loadAddon(searchPath: readonly string[]): Addon {
  const path = searchPath.find((candidate) => existsSync(candidate))
  const hint = `build it: ${join(packageRoot, 'native/fd/build')}`
  if (!path) {
    throw new VblkError(
      'NO_FD_ADDON',
      ExitCode.HostLacks,
      `the addon for descriptors is missing: ${searchPath.join(', ')}`,
      { hint },
    )
  }
  try {
    return createRequire(import.meta.url)(path) as Addon
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new VblkError('BAD_FD_ADDON', ExitCode.HostLacks, `the addon for descriptors does not load: ${reason}`, {
      hint,
      cause,
    })
  }
}

/**
 * Opens a file; the descriptor is closed on exec. Blocks where open(2) does: give O_NONBLOCK for what may be a FIFO.
 * @param flags - O_* of open(2), as in `fs.constants`
 * @param mode - permissions of a file that O_CREAT creates
 * @throws an Error with code, errno, syscall and path, like those of node:fs
 */
export function openFd(path: string, flags: number, mode = 0o600): number {
  return check(addon().open(path, flags, mode), 'open', path)
}

/** Closes a descriptor. @throws an Error with code, errno and syscall */
export function closeFd(fd: number): void {
  check(addon().close(fd), 'close')
}

/**
 * Calls an ioctl and returns its result, zero or more. Blocks the whole program while it lasts.
 * @param request - the number, whose size field says how many bytes of the buffer the kernel reads and writes
 * @param buffer - in and out; left out for an ioctl whose number has no size
 * @throws RangeError if the buffer is smaller than that, or an Error with code, errno and syscall
 */
export function ioctl(fd: number, request: number, buffer?: Buffer): number {
  return check(addon().ioctl(fd, request, buffer), 'ioctl')
}

/**
 * Connects to a unix stream socket and returns the descriptor, non-blocking and closed on exec, for
 * `new net.Socket({ fd })`: unlike a socket that Node connects, its number is known to sendFds.
 * @throws RangeError for a path longer than 107 bytes, or an Error with code, errno, syscall and path; EAGAIN means that
 *   the listener's queue is full
 */
export function connectFd(path: string): number {
  return check(addon().connect(path), 'connect', path)
}

/**
 * Passes descriptors over a connected unix socket (SCM_RIGHTS, unix(7)), with one space: a JSON reader, which QEMU's monitor
 * is, skips it. The caller keeps its own descriptors.
 * @param fds - 1 to 253 descriptors
 * @throws an Error with code, errno and syscall; EAGAIN means that the socket's buffer is full
 */
export function sendFds(socket: number, fds: readonly number[]): void {
  check(addon().sendFds(socket, [...fds]), 'sendmsg')
}

/** The process at the other end of a connected unix socket. @throws an Error with code, errno and syscall */
export function peerCredentials(socket: number): PeerCredentials {
  const result = addon().peerCredentials(socket)
  return typeof result === 'object' ? result : fail(result, 'getsockopt')
}

/**
 * A descriptor, closed on exec, of the same open file as that of another process (pidfd_getfd(2)).
 * @throws an Error with code, errno and syscall: EPERM without the right to trace that process, ESRCH when there is no such
 *   process, EBADF when it has no such descriptor
 */
export function copyFd(pid: number, fd: number): number {
  return check(addon().copyFd(pid, fd), 'pidfd_getfd')
}

/**
 * Takes a flock(2) lock without waiting. It lasts until all duplicates of the descriptor are closed.
 * @returns false if another open file holds a conflicting lock
 * @throws an Error with code, errno and syscall
 */
export function tryLock(fd: number, mode: 'exclusive' | 'shared'): boolean {
  const result = addon().tryLock(fd, mode === 'exclusive')
  if (result < 0 && getSystemErrorName(result) === 'EAGAIN') return false
  check(result, 'flock')
  return true
}

function check(result: number, syscall: string, path?: string): number {
  return result >= 0 ? result : fail(result, syscall, path)
}

function fail(errno: number, syscall: string, path?: string): never {
  const code = getSystemErrorName(errno)
  const error: NodeJS.ErrnoException = new Error(`${code}: ${syscall}${path === undefined ? '' : ` '${path}'`}`)
  throw Object.assign(error, { code, errno, syscall }, path === undefined ? {} : { path })
}
