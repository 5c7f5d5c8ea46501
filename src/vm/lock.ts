// SPDX-License-Identifier: GPL-2.0-or-later

import { constants, fstatSync, readFileSync } from 'node:fs'
import { ExitCode, VblkError } from '../errors.ts'
import { closeFd, openFd, tryLock } from '../host/fd.ts'
import { findProcess } from './qemu-process.ts'
import type { Vm } from './vm.ts'

/** Processes that this program has locked, and how often: a manager may serve the monitors of several VMs. */
const held = new Map<number, { fd: number; count: number }>()

/**
 * Keeps every other vblk on this host from changing a VM, until the returned function is called or this process ends.
 *
 * The monitor alone doesn't: a VM may have several. The lock is a flock(2) on the folder /proc/PID/fd of the process that
 * serves the monitor, so it belongs to the VM by whatever socket it is reached, is gone with either process, and only those
 * can take it who may look into that process.
 *
 * @param warn - hears why a VM can't be locked; then nothing is
 * @throws VblkError Busy (exit code 9) that names the process which holds the VM
 */
export function lockVm(vm: Vm, warn: (message: string) => void): () => void {
  const process = findProcess(vm)
  if ('unknown' in process) {
    warn(`${vm.name} is not locked against another vblk: ${process.unknown}`)
    return () => {}
  }
  return lockProcess(process.pid, vm.name, warn)
}

/** The same for the VM of a process that is known to serve its monitor. */
export function lockProcess(pid: number, name: string, warn: (message: string) => void): () => void {
  const lock = held.get(pid) ?? takeLock(name, pid, warn)
  if (lock === undefined) return () => {}
  lock.count++
  held.set(pid, lock)
  return () => {
    if (--lock.count > 0) return
    held.delete(pid)
    closeFd(lock.fd)
  }
}

function takeLock(
  name: string,
  pid: number,
  warn: (message: string) => void,
): { fd: number; count: number } | undefined {
  let fd: number
  try {
    fd = openFd(`/proc/${pid}/fd`, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch (error) {
    warn(`${name} is not locked against another vblk: ${(error as Error).message}`)
    return undefined
  }
  if (tryLock(fd, 'exclusive')) return { fd, count: 0 }
  const holder = findHolder(fstatSync(fd).ino)
  closeFd(fd)
  throw new VblkError(
    'VM_LOCKED',
    ExitCode.Busy,
    `${name} is busy: another vblk${holder === undefined ? '' : ` (process ${holder})`} is changing this VM`,
    { hint: 'ask again when it has finished', details: { pid: holder ?? null } },
  )
}

/** Who holds a flock on an inode, by /proc/locks: "1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE START END". */
function findHolder(inode: number): number | undefined {
  try {
    const line = new RegExp(`^\\d+: FLOCK +\\S+ +\\S+ +(\\d+) +[0-9a-f]+:[0-9a-f]+:${inode} `, 'm')
    const pid = line.exec(readFileSync('/proc/locks', 'utf8'))?.[1]
    return pid === undefined ? undefined : Number(pid)
  } catch {
    return undefined
  }
}
