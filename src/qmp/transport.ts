// SPDX-License-Identifier: GPL-2.0-or-later

import { readFile } from 'node:fs/promises'
import net from 'node:net'
import type { Duplex } from 'node:stream'
import { ExitCode } from '../errors.ts'
import { QmpConnectError } from './errors.ts'
import { type WaitOptions, waitFor } from './waiting.ts'

/** Opens a stream to a monitor by other means than a unix socket. Throws QmpConnectError. */
export type OpenTransport = (options: WaitOptions) => Promise<Duplex & Partial<FdPassing>>

/** Of a stream that can take descriptors along. */
export interface FdPassing {
  /** Gives the line that is written next descriptors to take along; they stay open until its reply. False while it can't. */
  passFds(fds: readonly number[]): boolean
}

export interface TcpAddress {
  host: string
  port: number
}

export interface TlsAddress extends TcpAddress {
  /** PEM files: the authorities to trust instead of the system's, and this client's own certificate and key. */
  ca?: string | undefined
  cert?: string | undefined
  key?: string | undefined
}

/** A monitor of QEMU's `-chardev socket,host=…,port=…,server=on`. Nothing protects it: for a trusted network. */
export function tcpTransport(address: TcpAddress): OpenTransport {
  return async (options) => await awaitSocket(net.connect(address), 'connect', address, options)
}

/** The same with `tls-creds=…`: the certificate must be good for the host's name. */
export function tlsTransport(address: TlsAddress): OpenTransport {
  return async (options) => {
    const { host, port } = address
    const [ca, cert, key] = await Promise.all([address.ca, address.cert, address.key].map(readPem))
    // Rarely wanted, and slow to load.
    const { connect } = process.getBuiltinModule('node:tls')
    const servername = net.isIP(host) === 0 ? { servername: host } : {}
    const files = { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) }
    return await awaitSocket(connectTls(), 'secureConnect', address, options)

    function connectTls() {
      try {
        return connect({ host, port, ...servername, ...files })
      } catch (cause) {
        throw new QmpConnectError('TLS_FAILED', ExitCode.HostLacks, `TLS: ${(cause as Error).message}`, {
          hint: 'ca, cert and key must name PEM files that belong together',
          cause,
        })
      }
    }
  }
}

async function readPem(file: string | undefined): Promise<Buffer | undefined> {
  if (file === undefined) return undefined
  try {
    return await readFile(file)
  } catch (cause) {
    const isMissing = (cause as NodeJS.ErrnoException).code === 'ENOENT'
    throw new QmpConnectError(
      'TLS_FILE',
      isMissing ? ExitCode.NotFound : ExitCode.HostLacks,
      `can't read the TLS file ${file}: ${(cause as Error).message}`,
      { cause },
    )
  }
}

async function awaitSocket(
  socket: net.Socket,
  event: 'connect' | 'secureConnect',
  { host, port }: TcpAddress,
  options: WaitOptions,
): Promise<net.Socket> {
  const where = `${host} port ${port}`
  const connected = new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.once(event, () => {
      socket.off('error', reject)
      resolve()
    })
  })
  try {
    await waitFor(connected, `a connection to ${where}`, options)
    return socket
  } catch (error) {
    socket.destroy()
    throw isErrno(error) ? explain(where, error) : error
  }
}

const isErrno = (error: unknown): error is NodeJS.ErrnoException =>
  error instanceof Error && 'code' in error && !('exitCode' in error)

function explain(where: string, cause: NodeJS.ErrnoException): QmpConnectError {
  const { code = '' } = cause
  if (code === 'ECONNREFUSED') {
    return new QmpConnectError('SOCKET_DEAD', ExitCode.NotFound, `${where}: nobody listens there`, { cause })
  }
  if (/^(ENOTFOUND|EAI_|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|ECONNRESET|EPIPE)/.test(code)) {
    return new QmpConnectError('HOST_UNREACHABLE', ExitCode.NotFound, `${where}: ${cause.message}`, { cause })
  }
  return new QmpConnectError('TLS_FAILED', ExitCode.HostLacks, `${where}: TLS failed: ${cause.message}`, {
    hint: 'name the authority and your certificate: tls:HOST:PORT?ca=FILE&cert=FILE&key=FILE',
    cause,
  })
}
