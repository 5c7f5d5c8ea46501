// SPDX-License-Identifier: GPL-2.0-or-later

const newline = 0x0a

/** Cuts a byte stream into lines, which QMP ends with CR LF. A reply of megabytes arrives in many chunks and is joined once. */
export class LineSplitter {
  readonly #maxBytes: number
  #chunks: Buffer[] = []
  #bytes = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** Returns the lines that the chunk completes, without their ends. Throws RangeError when a line exceeds the limit. */
  push(chunk: Buffer): string[] {
    const lines: string[] = []
    let start = 0
    for (let end = chunk.indexOf(newline); end !== -1; end = chunk.indexOf(newline, start)) {
      this.#keep(chunk.subarray(start, end))
      lines.push(Buffer.concat(this.#chunks, this.#bytes).toString('utf8').replace(/\r$/, ''))
      this.#chunks = []
      this.#bytes = 0
      start = end + 1
    }
    this.#keep(chunk.subarray(start))
    return lines
  }

  #keep(part: Buffer): void {
    if (part.length === 0) return
    this.#bytes += part.length
    if (this.#bytes > this.#maxBytes) throw new RangeError(`a line is longer than ${this.#maxBytes} bytes`)
    this.#chunks.push(part)
  }
}
