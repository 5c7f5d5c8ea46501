// SPDX-License-Identifier: GPL-2.0-or-later

import { Duplex } from 'node:stream'

/** One end of a connection without a kernel in between. */
class End extends Duplex {
  peer!: End

  constructor() {
    // As a socket: the end of the other's data is the end of both.
    super({ allowHalfOpen: false })
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.peer.push(chunk)
    done()
  }

  override _final(done: () => void): void {
    this.peer.push(null)
    done()
  }

  override _destroy(_error: Error | null, done: () => void): void {
    this.peer.push(null)
    done()
  }
}

/** Two ends: what one writes, the other reads; when one is destroyed, the other reads the end. */
export function connectedPair(): [Duplex, Duplex] {
  const [a, b] = [new End(), new End()]
  a.peer = b
  b.peer = a
  return [a, b]
}
