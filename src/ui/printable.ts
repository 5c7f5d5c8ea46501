// SPDX-License-Identifier: GPL-2.0-or-later

const SHORT_ESCAPES: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }

/**
 * Text as one line that a terminal only shows and never obeys: control characters, and the ones that reorder what
 * follows them, appear as escapes. For whatever comes from a guest, a QEMU or a file name.
 */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, escapeCharacter)
}

function escapeCharacter(character: string): string {
  const code = character.codePointAt(0) ?? 0
  return SHORT_ESCAPES[character] ?? (code < 0x100 ? `\\x${hex(code, 2)}` : `\\u${hex(code, 4)}`)
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0')
}
