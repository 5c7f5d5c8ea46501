// SPDX-License-Identifier: GPL-2.0-or-later

import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { PeerCredentials } from '../host/fd.ts'
import { readFileOwner } from './qemu-process.ts'

/** A domain by libvirt's word. */
export interface DomainIdentity {
  /** Of the connection that was used, like 'qemu:///system'. */
  uri: string
  name: string
  uuid: string
}

/** Whether a connection is to a libvirt of this host. */
export const isLocalUri = (uri: string): boolean => /^qemu(\+unix)?:\/\/\/(system|session)$/.test(uri)

/**
 * The QEMU of a domain on this host, or why it isn't known. libvirt writes its number to a file that only the owner of the
 * connection may change; the process must have been started for the domain's UUID, since such a file may be of an earlier one.
 */
export async function findDomainProcess({
  uri,
  name,
  uuid,
}: DomainIdentity): Promise<PeerCredentials | { unknown: string }> {
  if (!isLocalUri(uri)) return { unknown: `${uri} may be of another host` }
  const file = join(stateFolder(uri), `${name}.pid`)
  try {
    const pid = Number(await readFile(file, 'utf8'))
    const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0')
    const owner = await readFileOwner(pid)
    if (owner === undefined || words[words.indexOf('-uuid') + 1] !== uuid) {
      return { unknown: `process ${pid} of ${file} is not its QEMU` }
    }
    return { pid, ...owner }
  } catch (error) {
    return { unknown: (error as Error).message }
  }
}

/** Where libvirt's QEMU driver keeps what is of running domains (qemu_conf.c, stateDir). */
function stateFolder(uri: string): string {
  if (uri.endsWith('/system') || process.getuid?.() === 0) return '/run/libvirt/qemu'
  return join(process.env.XDG_RUNTIME_DIR || join(homedir(), '.cache'), 'libvirt/qemu/run')
}
