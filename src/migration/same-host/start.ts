// SPDX-License-Identifier: GPL-2.0-or-later

import { randomBytes } from 'node:crypto'
import { existsSync, realpathSync } from 'node:fs'
import path from 'node:path'
import { ExitCode, VblkError } from '../../errors.ts'
import { findDeviceObject, isDeviceObject, requireDeviceObject } from '../../host/device-object.ts'
import { findQemu, type QemuBinary } from '../../host/qemu.ts'
import { resolveVm } from '../../vm/resolve.ts'
import { readFacts, type Vm } from '../../vm/vm.ts'
import { answers, runUntilMonitor, type Starter, type StartOptions } from '../start-destination.ts'
import { type Successor, successorArguments } from './arguments.ts'
import { readSourceProcess, type SourceProcess } from './source-process.ts'

/**
 * Ends the names of what both QEMUs would have, until the VM has moved. Never the same again: a QEMU removes at its end what has the
 * name by which it made its socket.
 */
export const newSuffix = (): string => `.new-${randomBytes(4).toString('hex')}`
const anySuffix = /\.new-[0-9a-f]{8}$/

export interface SuccessorOptions extends StartOptions {
  /** A path; the program of the source, as it is now, unless given. */
  qemu?: string | undefined
  /** The kernel must be able to serve the disks there. */
  kernel: boolean
  warn: (message: string) => void
  /** See newSuffix. */
  suffix: string
}

/** What the new QEMU's files will be called, in that folder. */
export interface Started {
  names: Successor['names']
  cwd: string
  /** Whose they are. */
  uid: number
}

/**
 * Starts a QEMU like a VM's own, which waits for the VM with its monitor at `destination`. Its stock virtio-blk disks become such as
 * the kernel can serve, if the device is built for it. Throws VblkError: exit code 2 for a destination that is no unix socket or
 * is served, 4 without the device, 5 for a QEMU whose arguments can't be repeated or that doesn't start, 7 when its monitor doesn't
 * come.
 */
export async function startSuccessor(source: Vm, destination: string, options: SuccessorOptions): Promise<Started> {
  const [here, there] = [await resolveVm(source.name), await resolveVm(destination)]
  if (there.open !== undefined) throw unusable(`${destination} is no unix socket of this host`)
  if (await answers(destination, options)) throw unusable(`${destination} is served already`)
  const running = await readSourceProcess(source)
  const qemu = await findQemu(options.qemu ?? running.program)
  const object = chooseObject(qemu, running.argv, options)
  const { argv, names } = successorArguments(running.argv, {
    monitor: { isThis: monitorTest(running.cwd, here.path), becomes: path.resolve(there.path) },
    machine: (await readFacts(source, options)).machine,
    object,
    nameNow: (name) => nameNow(running.cwd, name),
    suffix: options.suffix,
  })
  await runUntilMonitor(asUser(running, qemu.path, argv), destination, options)
  return { names, cwd: running.cwd, uid: running.uid }
}

const unusable = (why: string) =>
  new VblkError('NOT_STARTABLE', ExitCode.Usage, `${why}: no QEMU can be started there`, {
    hint: 'give the path of a socket that nobody serves, or none',
  })

function chooseObject(qemu: QemuBinary, argv: string[], { kernel, warn }: SuccessorOptions): string | undefined {
  const hasDevice = argv.some((word) => /vhost-blk-pci/.test(word) || isDeviceObject(word.replace(/^file=/, '')))
  if (kernel || hasDevice) return requireDeviceObject(qemu)
  const found = findDeviceObject(qemu)
  if (found === undefined)
    warn(`there is no vhost-blk device for ${qemu.path}: its disks stay virtio-blk (vblk device build ${qemu.path})`)
  return found
}

/** Whether a path of the arguments is that of the monitor: its folder may have other names. */
function monitorTest(cwd: string, monitor: string): (name: string) => boolean {
  const real = (file: string) => {
    try {
      return path.join(realpathSync(path.dirname(file)), path.basename(file))
    } catch {
      return file
    }
  }
  const wanted = real(path.resolve(monitor))
  return (name) => real(path.resolve(cwd, name)) === wanted
}

/** A QEMU that took a VM over itself has its files by the names that its arguments have, without the suffix. */
function nameNow(cwd: string, name: string): string {
  return existsSync(path.resolve(cwd, name)) ? name : name.replace(anySuffix, '')
}

/**
 * The new QEMU gets the rights of the old one and no more, whatever its arguments and environment say: they are memory of a process
 * that a guest may have taken over. So its environment is set when the rights are gone, and one of vblk's own user gets vblk's.
 */
export function asUser({ uid, gid, groups, cwd, env }: SourceProcess, program: string, argv: string[]): Starter {
  const common = { shown: program, cwd, isQemu: true }
  if (uid === process.geteuid?.()) return { file: program, args: argv, ...common }
  const ids = [`--reuid=${uid}`, `--regid=${gid}`, groups.length ? `--groups=${groups.join(',')}` : '--clear-groups']
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  const command = ['env', '-i', ...variables, program, ...argv]
  return { file: 'setpriv', args: [...ids, '--inh-caps=-all', '--', ...command], ...common }
}
