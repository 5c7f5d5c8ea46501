// SPDX-License-Identifier: GPL-2.0-or-later

export { type CommandOptions, type ConnectOptions, QmpClient, type Runstate } from './client.ts'
export * from './errors.ts'
export { EventStream } from './events.ts'
export type { Json } from './json.ts'
export * from './protocol.ts'
export {
  type FdPassing,
  type OpenTransport,
  type TcpAddress,
  type TlsAddress,
  tcpTransport,
  tlsTransport,
} from './transport.ts'
export type { WaitOptions } from './waiting.ts'
