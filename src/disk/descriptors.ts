// SPDX-License-Identifier: GPL-2.0-or-later
// A disk's files, opened by vblk for a QEMU that may not open them: each in a set of its own, which QEMU opens by the name
// /dev/fdset/ID (add-fd, misc.json). The set's label says whose it is, for whoever looks later.

import { constants } from 'node:fs'
import { ExitCode, VblkError } from '../errors.ts'
import { closeFd, openFd } from '../host/fd.ts'
import { DEVICE_PATH } from '../host/vhost-blk.ts'
import type { FdsetInfo, WaitOptions } from '../qmp/index.ts'
import { readProperty } from '../vm/qom.ts'
import type { Vm } from '../vm/vm.ts'
import type { DiskInfo } from './info.ts'
import type { DiskSpec } from './spec.ts'

/** Under which names QEMU opens a disk's files. */
export interface DescriptorSets {
  image: number
  /** Undefined for a disk that stays without /dev/vhost-blk. */
  kernel: number | undefined
}

/** A QMP command that takes a descriptor along. */
interface AddFd {
  fd: number
  arguments: { 'fdset-id': number; opaque: string }
}

export const setName = (set: number): string => `/dev/fdset/${set}`

const labelOf = (id: string): string => `vblk:${id}:`
/** Of the set that has a disk's image. */
export const imageLabel = (id: string, file: string): string => `${labelOf(id)}image:${file}`
const kernelLabel = (id: string): string => `${labelOf(id)}kernel:${DEVICE_PATH}`

/** The descriptors of one disk, open until they are closed here, whatever becomes of QEMU's duplicates. */
export class Descriptors {
  readonly sets: DescriptorSets
  readonly commands: readonly AddFd[]
  readonly #own: readonly number[]

  private constructor(sets: DescriptorSets, commands: AddFd[], own: number[]) {
    this.sets = sets
    this.commands = commands
    this.#own = own
  }

  /**
   * Opens what a disk needs, and chooses the sets. Throws VblkError: exit code 4 without the module, if the kernel must serve
   * the disk; 5 for an image that can't be opened, and for a VM that can't be passed descriptors.
   *
   * @param reserved - sets that others are to get; those of this disk are added
   */
  static async open(vm: Vm, spec: DiskSpec, wait: WaitOptions, reserved = new Set<number>()): Promise<Descriptors> {
    if (!vm.qmp.passesFds) {
      throw new VblkError(
        'NO_DESCRIPTORS',
        ExitCode.Refused,
        `${vm.name}: descriptors pass only a unix socket of this host, or its libvirt`,
        {
          hint: "leave out --pass-fd, or name the VM's own QMP socket",
        },
      )
    }
    const there = await vm.qmp.execute('query-fdsets', {}, wait)
    const [image, kernel] = freeNumbers(new Set([...reserved, ...there.map(numberOf)]))
    reserved.add(image).add(kernel)
    const own: number[] = []
    try {
      const opened = openImage(spec)
      own.push(opened)
      const opaque = imageLabel(spec.id, spec.source.file)
      const commands = [{ fd: opened, arguments: { 'fdset-id': image, opaque } }]
      const device = openKernel(spec)
      if (device === undefined) return new Descriptors({ image, kernel: undefined }, commands, own)
      own.push(device)
      commands.push({ fd: device, arguments: { 'fdset-id': kernel, opaque: kernelLabel(spec.id) } })
      return new Descriptors({ image, kernel }, commands, own)
    } catch (error) {
      for (const fd of own) closeFd(fd)
      throw error
    }
  }

  /** Passes them. Throws what QmpClient.execute throws. */
  async pass(vm: Vm, wait: WaitOptions): Promise<void> {
    for (const { fd, arguments: args } of this.commands) await vm.qmp.execute('add-fd', args, { ...wait, fds: [fd] })
  }

  close(): void {
    for (const fd of this.#own) closeFd(fd)
  }
}

/** The two lowest that aren't taken. */
function freeNumbers(taken: ReadonlySet<number>): [number, number] {
  const free: number[] = []
  for (let number = 0; free.length < 2; number++) if (!taken.has(number)) free.push(number)
  return free as [number, number]
}

/**
 * Opens the image anew, even where there is a descriptor already: QEMU's locks belong to what was opened, and two that share it
 * would not keep each other out.
 */
function openImage({ source: { file, descriptor }, readOnly, cache }: DiskSpec): number {
  const access = readOnly ? constants.O_RDONLY : constants.O_RDWR
  const direct = cache === 'none' ? constants.O_DIRECT : 0
  try {
    return openFd(
      descriptor === undefined ? file : `/proc/self/fd/${descriptor}`,
      access | direct | constants.O_NONBLOCK,
    )
  } catch (cause) {
    const hasNoDirect = direct !== 0 && (cause as NodeJS.ErrnoException).code === 'EINVAL'
    if (hasNoDirect) {
      throw new VblkError('NO_O_DIRECT', ExitCode.Refused, `the file system of ${file} has no O_DIRECT`, {
        hint: 'give --cache writeback',
        cause,
      })
    }
    throw new VblkError(
      'SOURCE_NOT_READABLE',
      ExitCode.Refused,
      `${file} can't be opened: ${(cause as Error).message}`,
      {
        cause,
      },
    )
  }
}

/** Undefined if the disk does without. */
function openKernel({ datapath }: DiskSpec): number | undefined {
  if (datapath === 'userspace') return undefined
  try {
    return openDevice()
  } catch (error) {
    if (datapath === 'auto') return undefined
    throw error
  }
}

function openDevice(): number {
  try {
    return openFd(DEVICE_PATH, constants.O_RDWR)
  } catch (cause) {
    throw new VblkError(
      'NO_KERNEL_DATAPATH',
      ExitCode.HostLacks,
      `the kernel datapath is not available: ${(cause as Error).message}`,
      { hint: 'load the module with "vblk module load", or give --datapath auto', cause },
    )
  }
}

/** The sets that vblk has made for a disk, and not removed. */
export async function findSets(vm: Vm, id: string, wait: WaitOptions = {}): Promise<number[]> {
  const sets = await vm.qmp.execute('query-fdsets', {}, wait)
  return sets.filter(({ fds }) => fds.some(({ opaque }) => opaque?.startsWith(labelOf(id)))).map(numberOf)
}

const numberOf = (set: FdsetInfo): number => Number(set['fdset-id'])

/** Takes a disk's sets away again. What QEMU still has open stays open. */
export async function removeSets(vm: Vm, id: string): Promise<void> {
  for (const set of await findSets(vm, id)) await vm.qmp.execute('remove-fd', { 'fdset-id': set })
}

type KernelDisk = Pick<DiskInfo, 'id' | 'path'>

/** The set by which a disk opens /dev/vhost-blk; undefined if it opens it by its path. */
async function kernelSet(vm: Vm, { path }: KernelDisk, wait: WaitOptions): Promise<number | undefined> {
  const name = await readProperty(vm, path, 'vhostdev', wait)
  const digits = /^\/dev\/fdset\/(\d{1,9})$/.exec(typeof name === 'string' ? name : '')?.[1]
  return digits === undefined ? undefined : Number(digits)
}

/**
 * How a disk got its /dev/vhost-blk, if from somebody else: vblk can neither close that nor give another one. Undefined for one
 * that it opens by its path or by a set that vblk has passed.
 */
export async function foreignKernel(vm: Vm, disk: KernelDisk, wait: WaitOptions = {}): Promise<string | undefined> {
  const given = await readProperty(vm, disk.path, 'vhostfds', wait)
  if (typeof given === 'string' && given !== '') return `vhostfds=${given}`
  const set = await kernelSet(vm, disk, wait)
  if (set === undefined) return undefined
  const fds = (await vm.qmp.execute('query-fdsets', {}, wait)).find((each) => numberOf(each) === set)?.fds ?? []
  const isOurs = ({ opaque }: { opaque?: string }) => disk.id !== null && opaque?.startsWith(labelOf(disk.id)) === true
  return fds.every(isOurs) ? undefined : `vhostdev=${setName(set)}`
}

/** Takes away the /dev/vhost-blk that vblk passed for a disk, which keeps the module loaded even while nobody uses it. */
export async function withdrawKernel(vm: Vm, disk: KernelDisk, wait: WaitOptions = {}): Promise<void> {
  if (disk.id === null) return
  const set = await kernelSet(vm, disk, wait)
  if (set === undefined || !(await findSets(vm, disk.id, wait)).includes(set)) return
  await vm.qmp.execute('remove-fd', { 'fdset-id': set }, wait)
}

/**
 * Passes /dev/vhost-blk again for a disk that opens it by a set which is gone: withdrawn, or dropped by QEMU (before 9.1 it did
 * so with what nobody had open when its last monitor left). Throws VblkError (exit code 4) without the module.
 */
export async function renewKernel(vm: Vm, disk: KernelDisk, wait: WaitOptions = {}): Promise<void> {
  const set = await kernelSet(vm, disk, wait)
  if (set === undefined || disk.id === null) return
  const sets = await vm.qmp.execute('query-fdsets', {}, wait)
  if (sets.some((each) => numberOf(each) === set && each.fds.length > 0)) return
  const fd = openDevice()
  try {
    const opaque = kernelLabel(disk.id)
    await vm.qmp.execute('add-fd', { 'fdset-id': set, opaque }, { ...wait, fds: [fd] })
  } finally {
    closeFd(fd)
  }
}

/** The path that vblk opened for a name like /dev/fdset/1; any other name as it is. */
export function fileOfSet(name: string, sets: readonly FdsetInfo[]): string {
  const set = sets.find((each) => setName(numberOf(each)) === name)
  for (const { opaque } of set?.fds ?? []) {
    const path = /^vblk:[^:]*:image:(.*)$/s.exec(opaque ?? '')?.[1]
    if (path !== undefined) return path
  }
  return name
}
