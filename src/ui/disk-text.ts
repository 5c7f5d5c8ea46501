// SPDX-License-Identifier: GPL-2.0-or-later

import { Args } from '@oclif/core'
import type { DiskInfo } from '../disk/info.ts'
import type { PlannedCommand } from '../disk/plan.ts'
import { printable } from './printable.ts'

export const vmDescription = "registered name, path of the VM's QMP socket, tcp:, tls:, ssh:// or libvirt: address"

/** The argument that names a VM. */
export const vmArgument = () => Args.string({ description: vmDescription, required: true })

/** The argument that names a disk of that VM. */
export const diskArgument = () => Args.string({ description: "the disk's id in the VM", required: true })

/** QMP commands as they would be sent, one a line. */
export function formatCommands(commands: PlannedCommand[]): string {
  return commands.map((command) => printable(JSON.stringify(command))).join('\n')
}

/** Who serves a disk, and why if it is not the kernel. */
export function formatDatapath({ datapath, reason }: Pick<DiskInfo, 'datapath' | 'reason'>): string {
  return reason === '' ? datapath : printable(`${datapath} (${reason})`)
}

/** The write cache now, and the original if it is another. */
export function formatWriteCache({ writeCache: { current, original } }: Pick<DiskInfo, 'writeCache'>): string {
  if (current === null) return '-'
  return original === null || original === current ? current : `${current} (originally ${original})`
}

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB']

/** A size in the largest unit that leaves at least 1, with one decimal where it isn't whole. */
export function formatSize(bytes: number | null): string {
  if (bytes === null) return '-'
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10))
  const value = bytes / 1024 ** power
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[power]}`
}
