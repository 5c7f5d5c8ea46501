// SPDX-License-Identifier: GPL-2.0-or-later

import type { DiskInfo } from '../disk/info.ts'
import { readVhostState, type VhostState } from '../disk/vhost-state.ts'
import { ExitCode, VblkError } from '../errors.ts'
import type { Json, WaitOptions } from '../qmp/index.ts'
import { findProcess } from '../vm/qemu-process.ts'
import { readProperty } from '../vm/qom.ts'
import type { Vm } from '../vm/vm.ts'
import { type BackendFigures, readFdinfo } from './fdinfo.ts'
import { hostOf, type ThereVm } from './hosts/host-of.ts'
import type { Report } from './options.ts'

/** A disk while its VM stands still. */
export interface StoppedDisk {
  name: string
  writeCache: DiskInfo['writeCache']
  /** What QEMU says; undefined for a device that never uses the kernel. */
  state: VhostState | undefined
  /** What the kernel says of each descriptor. */
  kernel: (BackendFigures | { unknown: string })[]
}

/** Reads all disks at once: a guest stands still for the time of it. */
export async function readStandstill(
  vm: Vm,
  disks: readonly { name: string; path: string }[],
  wait: WaitOptions,
): Promise<StoppedDisk[]> {
  const read = fdinfoReader(vm)
  return await Promise.all(
    disks.map(async ({ name, path }) => {
      const [state, original, current] = await Promise.all([
        readVhostState(vm, path, wait),
        readProperty(vm, path, 'original-write-cache', wait),
        readProperty(vm, path, 'current-write-cache', wait),
      ])
      return {
        name,
        writeCache: { original: writeCache(original), current: writeCache(current) },
        state,
        kernel: await read(state?.fds ?? []),
      }
    }),
  )
}

/** Reads what the kernel that has a VM's process says of the process's descriptors. */
function fdinfoReader(vm: Vm): (fds: readonly number[]) => Promise<StoppedDisk['kernel']> {
  const there = hostOf(vm)
  if (there !== undefined) return async (fds) => (fds.length === 0 ? [] : await askFdinfo(there, fds))
  const process = findProcess(vm)
  return async (fds) => await Promise.all(fds.map((fd) => ('pid' in process ? readFdinfo(process.pid, fd) : process)))
}

async function askFdinfo({ host }: ThereVm, fds: readonly number[]): Promise<StoppedDisk['kernel']> {
  const figures = await host.ask('fdinfo', { fds: [...fds] })
  return fds.map((_, index) => figures[index] ?? { unknown: `${host.name} did not tell` })
}

/**
 * Throws VblkError unless every backend of the source is stopped, by QEMU's word and by the kernel's: what a backend
 * still writes would be missing in the saved state.
 */
export function requireStopped(disks: readonly StoppedDisk[], report: Pick<Report, 'warn'>): void {
  for (const { name, state, kernel } of disks) {
    const running = whyRunning(state, kernel)
    if (running !== undefined) {
      throw new VblkError('BACKEND_RUNNING', ExitCode.Refused, `${name}: its backend has not stopped: ${running}`)
    }
    const unknown = kernel.find((each) => 'unknown' in each)
    if (unknown !== undefined) {
      report.warn(`${name}: only QEMU says that its backend is stopped; the kernel can't be asked: ${unknown.unknown}`)
    }
  }
}

/** Why a backend counts as running; undefined if it is stopped as far as anyone says. */
export function whyRunning(state: VhostState | undefined, kernel: StoppedDisk['kernel']): string | undefined {
  if (state === undefined) return undefined
  if (state.active) return 'QEMU says that it is active'
  if (state.runningQueues > 0) return `QEMU says that ${state.runningQueues} queues run`
  for (const figures of kernel) {
    if ('unknown' in figures) continue
    if (figures.running > 0) return `the kernel says that ${figures.running} queues run`
    if (figures.inflight > 0) return `the kernel has ${figures.inflight} requests in flight`
  }
  return undefined
}

function writeCache(value: Json | undefined): DiskInfo['writeCache']['current'] {
  if (typeof value !== 'boolean') return null
  return value ? 'writeback' : 'writethrough'
}
