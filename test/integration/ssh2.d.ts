// SPDX-License-Identifier: GPL-2.0-or-later
// What the tests use of ssh2, which brings no types.

declare module 'ssh2' {
  import type { Duplex, EventEmitter } from 'node:stream'

  export interface Connection extends EventEmitter {
    on(event: 'authentication', listener: (context: { method: string; accept(): void; reject(): void }) => void): this
    on(event: 'error', listener: (error: Error) => void): this
    on(
      event: 'openssh.streamlocal',
      listener: (accept: () => Duplex, reject: () => void, info: { socketPath: string }) => void,
    ): this
  }

  export interface Server extends EventEmitter {
    listen(port: number, host: string, listening: () => void): this
    address(): { port: number }
    close(): void
  }

  const ssh2: {
    Server: new (config: { hostKeys: Buffer[] }, connected: (connection: Connection) => void) => Server
  }
  export default ssh2
}
