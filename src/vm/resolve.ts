// SPDX-License-Identifier: GPL-2.0-or-later

import { stat } from 'node:fs/promises'
import { ExitCode } from '../errors.ts'
import { type OpenTransport, QmpConnectError, tcpTransport, tlsTransport } from '../qmp/index.ts'
import { parseAddress, type VmAddress } from './address.ts'
import { findRegistered, listRegistered } from './registry.ts'

/** How a VM's monitor is reached. */
export interface Route {
  /** A unix socket of this host, or the address as messages show it. */
  path: string
  open?: OpenTransport
  /** See Vm. */
  elsewhere?: string
  remote?: boolean
}

const bareName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/

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
  const elsewhere = (how: string) => `its monitor is reached through ${how}`
  switch (address.kind) {
    case 'unix':
      return { path: address.path }
    case 'tcp':
      return { path: text, open: tcpTransport(address), elsewhere: elsewhere('the network'), remote: true }
    case 'tls':
      return { path: text, open: tlsTransport(address), elsewhere: elsewhere('the network'), remote: true }
    case 'ssh': {
      const { sshTransport } = await import('./ssh.ts')
      return { path: text, open: sshTransport(address), elsewhere: elsewhere('ssh'), remote: true }
    }
    default: {
      const { libvirtTransport } = await import('./libvirt.ts')
      const remote = address.uri !== undefined && !/^qemu:\/\/\//.test(address.uri)
      return { path: text, open: libvirtTransport(address), elsewhere: elsewhere('libvirt'), remote }
    }
  }
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  )
}
