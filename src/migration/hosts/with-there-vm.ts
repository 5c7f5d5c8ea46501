// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../../errors.ts'
import { parseAddress } from '../../vm/address.ts'
import { findRegistered } from '../../vm/registry.ts'
import { type LockVmOptions, type Vm, withVm } from '../../vm/vm.ts'
import type { Sides } from '../options.ts'
import { hostOf, setHost } from './host-of.ts'

/** The ssh address that a VM is named by, or that its registered name stands for; undefined for a VM of any other kind. */
export async function sshName(name: string): Promise<string | undefined> {
  const address = parseAddress(name)
  if (address !== undefined) return address.kind === 'ssh' ? name : undefined
  const registered = await findRegistered(name).catch(() => undefined)
  return registered === undefined ? undefined : await sshName(registered.address)
}

/**
 * Opens a VM of another host for changes: that host's vblk keeps every other one there from it, and answers for it. Throws
 * VblkError: what OtherHost.open throws, exit code 9 while another vblk changes the VM.
 */
export async function withThereVm<T>(name: string, options: LockVmOptions, use: (vm: Vm) => Promise<T>): Promise<T> {
  const { OtherHost, sshAddress } = await import('./other-host.ts')
  const address = sshAddress(name)
  if (address === undefined) throw new VblkError('BAD_ADDRESS', ExitCode.Usage, `${name} is no ssh address`)
  const host = await OtherHost.open(address, options)
  try {
    const { process, unlocked } = await host.ask('look', { path: address.path }, { signal: options.signal })
    if (process === null || unlocked !== null) {
      const why = unlocked ?? 'its process is not known'
      throw new VblkError('HOST_CANT_TELL', ExitCode.HostLacks, `on ${address.destination}: ${address.path}: ${why}`, {
        hint: 'reach it as root, or as the user that runs its QEMU',
      })
    }
    return await withVm(name, options, async (vm) => {
      setHost(vm, { host, process })
      return await use(vm)
    })
  } finally {
    await host.close()
  }
}

/**
 * Throws VblkError (exit code 9) if the destination's host knows of a migration of that QEMU, another than the one given, that has
 * not come to its end.
 */
export async function requireNoneThere({ destination }: Sides, own?: string): Promise<void> {
  const there = hostOf(destination)
  const id = await there?.host.ask('open', {})
  if (there === undefined || id === null || id === undefined || id === own) return
  throw new VblkError('MIGRATION_UNFINISHED', ExitCode.Busy, `migration ${id} of ${destination.name} is open there`, {
    hint: `on ${there.host.name}: vblk migrate recover ${id}`,
  })
}
