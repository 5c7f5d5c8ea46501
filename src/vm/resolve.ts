// SPDX-License-Identifier: GPL-2.0-or-later

import { stat } from 'node:fs/promises'
import { ExitCode } from '../errors.ts'
import { type OpenTransport, QmpConnectError, tcpTransport, tlsTransport } from '../qmp/index.ts'
import { parseAddress, type VmAddress } from './address.ts'
import { findRegistered, listRegistered } from './registry.ts'
import type { Vm } from './vm.ts'

/** Where a VM's QEMU runs, as far as its address tells: see Vm. */
export type Place = Pick<Vm, 'process' | 'elsewhere' | 'remote'>

/** How a VM's monitor is reached. */
export interface Route {
  /** A unix socket of this host, or the address as messages show it. */
  path: string
  open?: OpenTransport
  place?: Place
  /** For a place that only an open monitor tells. */
  locate?(): Promise<Place>
}

const bareName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/

/** The address that a VM is named by, or that its registered name stands for; undefined for a name that nothing has. */
export async function findAddress(text: string): Promise<VmAddress | undefined> {
  const address = parseAddress(text)
  if (address !== undefined || !bareName.test(text)) return address
  const registered = await findRegistered(text)
  return registered && parseAddress(registered.address)
}

/** Throws VblkError: exit code 2 for an address that is none, 3 for a name that nothing has. */
export async function resolveVm(text: string): Promise<Route> {
  const address = parseAddress(text)
  if (address !== undefined) return route(text, address)
  const registered = bareName.test(text) ? await findRegistered(text) : undefined
  const stored = registered && parseAddress(registered.address)
  if (registered !== undefined && stored !== undefined) return route(registered.address, stored)
  if (await exists(text)) return { path: text }
  const names = (await listRegistered()).map(({ name }) => name)
  throw new QmpConnectError('VM_NOT_FOUND', ExitCode.NotFound, `${text}: no such VM, and no such socket`, {
    hint:
      names.length === 0
        ? "give the path of the VM's QMP socket, or register it with: vblk vm add"
        : `registered are: ${names.slice(0, 20).join(', ')}`,
  })
}

async function route(text: string, address: VmAddress): Promise<Route> {
  const there = (how: string) => ({ elsewhere: `its monitor is reached through ${how}`, remote: true })
  switch (address.kind) {
    case 'unix':
      return { path: address.path }
    case 'tcp':
      return { path: text, open: tcpTransport(address), place: there('the network') }
    case 'tls':
      return { path: text, open: tlsTransport(address), place: there('the network') }
    case 'ssh': {
      const { sshTransport } = await import('./ssh.ts')
      return { path: text, open: sshTransport(address), place: there('ssh') }
    }
    default: {
      const { libvirtRoute } = await import('./libvirt.ts')
      return { path: text, ...libvirtRoute(address) }
    }
  }
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  )
}
