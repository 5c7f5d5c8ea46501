// SPDX-License-Identifier: GPL-2.0-or-later

import { realpath } from 'node:fs/promises'
import { ExitCode, VblkError } from '../errors.ts'
import { findAddress } from '../vm/resolve.ts'
import { type Vm, withLockedVm } from '../vm/vm.ts'
import { sshName, withThereVm } from './hosts/with-there-vm.ts'
import { MemoryPendingError } from './memory-pending.ts'
import type { Sides } from './options.ts'
import { OutcomeUnknownError } from './outcome-unknown.ts'
import { endUnused } from './start-destination.ts'

export interface TwoVmsOptions {
  timeoutMs: number
  signal: AbortSignal
  warn: (message: string) => void
  /** Hears the traffic with both, each line with its side in front. */
  trace: ((line: string) => void) | undefined
  /** Ask for out-of-band commands too. */
  outOfBand?: boolean
  /** Starts the destination's QEMU if nobody serves its monitor, and tells whether it did. */
  start?: ((destination: string, source: Vm) => Promise<boolean>) | undefined
}

/**
 * Opens the two QEMUs of a migration for changes, and closes them after use. Throws what withLockedVm throws, and VblkError
 * (exit code 2) if both names are of one socket, 5 for a domain of libvirt.
 */
export async function withTwoVms<T>(
  names: { vm: string; destination: string },
  { trace, start, ...options }: TwoVmsOptions,
  use: (sides: Sides) => Promise<T>,
): Promise<T> {
  await requireTwo(names.vm, names.destination)
  for (const name of [names.vm, names.destination]) await requireOwn(name)
  await requireSourceHere(names.vm)
  const there = await sshName(names.destination)
  const open = (side: string) => ({ ...options, trace: trace && ((line: string) => trace(`${side} ${line}`)) })
  return await withLockedVm(names.vm, open('source'), async (source) => {
    const started = (await start?.(names.destination, source)) ?? false
    try {
      const withDestination = there === undefined ? withLockedVm : withThereVm
      return await withDestination(there ?? names.destination, open('destination'), (destination) =>
        use({ source, destination }),
      )
    } catch (error) {
      // Where nobody can tell what became of the VM, or it needs both QEMUs, nothing is ended: recover asks both.
      const isNeeded = error instanceof OutcomeUnknownError || error instanceof MemoryPendingError
      if (started && !isNeeded) await endUnused(names.destination, options.warn)
      throw error
    }
  })
}

/** A domain's QEMU is libvirt's: its idea of where the VM is would be wrong from then on. */
async function requireOwn(name: string): Promise<void> {
  if ((await findAddress(name))?.kind !== 'libvirt') return
  throw new VblkError(
    'LIBVIRT_DOMAIN',
    ExitCode.Refused,
    `${name} is a domain of libvirt, which would not know of the move`,
    {
      hint: 'move it with virsh migrate; "vblk device adapt --help" tells how its disks fit the other host',
    },
  )
}

/** vblk runs where the VM does: only there can it prove what became of the source. */
async function requireSourceHere(vm: string): Promise<void> {
  if ((await sshName(vm)) === undefined) return
  throw new VblkError('SOURCE_NOT_HERE', ExitCode.Usage, `${vm} is on another host`, {
    hint: 'run vblk on the host that has the VM, and name the destination by its ssh:// address',
  })
}

async function requireTwo(vm: string, destination: string): Promise<void> {
  const [a, b] = await Promise.all([vm, destination].map((path) => realpath(path).catch(() => path)))
  if (a !== b) return
  throw new VblkError('SAME_VM', ExitCode.Usage, `source and destination are the same: ${vm}`)
}
