// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import type { TcpAddress, TlsAddress } from '../qmp/index.ts'

/** Where a VM's monitor is. */
export type VmAddress =
  | { kind: 'unix'; path: string }
  | ({ kind: 'tcp' } & TcpAddress)
  | ({ kind: 'tls' } & TlsAddress)
  /** A unix socket on another host; the destination is what ssh(1) takes. */
  | { kind: 'ssh'; destination: string; port?: number; path: string }
  /** A domain of libvirt, at its default connection or another. */
  | { kind: 'libvirt'; domain: string; uri?: string }

/**
 * Reads what names a monitor: a path (with a slash in it, or after `unix:`), `tcp:HOST:PORT`,
 * `tls:HOST:PORT?ca=FILE&cert=FILE&key=FILE`, `ssh://[USER@]HOST[:PORT]/PATH`, `libvirt:DOMAIN[?uri=URI]`. Undefined for
 * a bare word, which may be a name. Throws VblkError (usage) for an address of these kinds that is none.
 */
export function parseAddress(text: string): VmAddress | undefined {
  const scheme = /^(unix|tcp|tls|ssh|libvirt):/.exec(text)?.[1]
  if (scheme === undefined) return text.includes('/') ? { kind: 'unix', path: text } : undefined
  const rest = text.slice(scheme.length + 1)
  switch (scheme) {
    case 'unix':
      if (rest === '') throw bad(text, 'unix:PATH')
      return { kind: 'unix', path: rest }
    case 'tcp':
      return { kind: 'tcp', ...hostAndPort(text, rest, 'tcp:HOST:PORT') }
    case 'tls': {
      const form = 'tls:HOST:PORT?ca=FILE&cert=FILE&key=FILE'
      const [where = '', query] = splitQuery(rest)
      return { kind: 'tls', ...hostAndPort(text, where, form), ...parameters(text, query, ['ca', 'cert', 'key'], form) }
    }
    case 'ssh':
      return parseSsh(text)
    default: {
      const form = 'libvirt:DOMAIN?uri=URI'
      const [domain = '', query] = splitQuery(rest)
      if (!/^[^\p{Cc}]+$/u.test(domain)) throw bad(text, form)
      return { kind: 'libvirt', domain, ...parameters(text, query, ['uri'], form) }
    }
  }
}

function hostAndPort(text: string, rest: string, form: string): TcpAddress {
  const match = /^(?:\[([0-9a-f:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/i.exec(rest.replace(/^\/\//, ''))
  const [, v6, name, digits] = match ?? []
  const host = v6 ?? name
  const port = Number(digits)
  if (host === undefined || port < 1 || port > 65535) throw bad(text, form)
  return { host, port }
}

function parseSsh(text: string): VmAddress {
  const form = 'ssh://[USER@]HOST[:PORT]/PATH'
  // What ssh(1) could take for an option or for a command is no part of a host's or a user's name.
  const match = /^ssh:\/\/((?:[A-Za-z0-9_][\w.+-]*@)?[A-Za-z0-9_][\w.-]*)(?::(\d{1,5}))?(\/[^\p{Cc}]+)$/u.exec(text)
  const [, destination, digits, path] = match ?? []
  const port = digits === undefined ? undefined : Number(digits)
  if (destination === undefined || path === undefined || port === 0 || (port ?? 1) > 65535) throw bad(text, form)
  return { kind: 'ssh', destination, path, ...(port !== undefined && { port }) }
}

function splitQuery(text: string): [string, string | undefined] {
  const at = text.indexOf('?')
  return at === -1 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)]
}

function parameters<N extends string>(text: string, query: string | undefined, names: N[], form: string) {
  const found: { [name in N]?: string } = {}
  for (const part of query === undefined ? [] : query.split('&')) {
    const at = part.indexOf('=')
    const name = names.find((candidate) => candidate === part.slice(0, at))
    if (name === undefined || at === part.length - 1 || found[name] !== undefined) throw bad(text, form)
    found[name] = part.slice(at + 1)
  }
  return found
}

function bad(text: string, form: string): VblkError {
  return new VblkError('BAD_ADDRESS', ExitCode.Usage, `'${text}' is no address like ${form}`)
}
