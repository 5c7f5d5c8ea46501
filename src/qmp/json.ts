// SPDX-License-Identifier: GPL-2.0-or-later

/** What QMP carries. An integer that a JavaScript number can't hold exactly (QAPI has int64 and uint64) is a bigint. */
export type Json = null | boolean | number | bigint | string | Json[] | { [key: string]: Json }

// Neither JSON.parse nor JSON.stringify of Node 20 knows bigint, so one travels as a string that begins with this mark.
// No peer can guess it, so no peer can forge one. Made when first needed, since that module is slow to load.
let mark: string | undefined

function requireMark(): string {
  mark ??= `bigint:${process.getBuiltinModule('node:crypto').randomUUID()}:`
  return mark
}

const quote = 0x22
const backslash = 0x5c

/** Parses one JSON text; throws SyntaxError. */
export function parseJson(text: string): Json {
  // No integer of fewer than 16 digits is unsafe, and nearly no reply has a longer one.
  if (!/\d{16}/.test(text)) return JSON.parse(text)
  const begin = requireMark()
  return JSON.parse(markUnsafeIntegers(text, begin), (_key, value) =>
    typeof value === 'string' && value.startsWith(begin) ? BigInt(value.slice(begin.length)) : value,
  )
}

/** Formats a value as JSON on one line; throws TypeError for what JSON can't say. */
export function formatJson(value: unknown): string {
  let hasBigint = false
  const text = JSON.stringify(value, (_key, item) => {
    if (typeof item !== 'bigint') return item
    hasBigint = true
    return requireMark() + item
  })
  return hasBigint ? text.replace(new RegExp(`"${mark}(-?\\d+)"`, 'g'), '$1') : text
}

function markUnsafeIntegers(text: string, begin: string): string {
  const integer = /-?\d{16,}/g
  let marked = ''
  let copied = 0
  let at = 0
  while (at < text.length) {
    const string = text.indexOf('"', at)
    const end = string === -1 ? text.length : string
    integer.lastIndex = at
    for (let match = integer.exec(text); match !== null && match.index < end; match = integer.exec(text)) {
      if (!isUnsafeInteger(text, match.index, match[0])) continue
      marked += `${text.slice(copied, match.index)}"${begin}${match[0]}"`
      copied = match.index + match[0].length
    }
    at = string === -1 ? text.length : endOfString(text, string)
  }
  return marked + text.slice(copied)
}

function isUnsafeInteger(text: string, index: number, digits: string): boolean {
  const partOfFraction = /[\d.eE+-]/.test(text[index - 1] ?? '') || /[.eE]/.test(text[index + digits.length] ?? '')
  return !partOfFraction && !Number.isSafeInteger(Number(digits))
}

/** The index after the string's closing quote; the text's length if there is none. */
function endOfString(text: string, opening: number): number {
  for (let at = opening + 1; at < text.length; at++) {
    const char = text.charCodeAt(at)
    if (char === backslash) at++
    else if (char === quote) return at + 1
  }
  return text.length
}

/** An `int` of QAPI may exceed what a number holds: then it is a bigint. */
export type QapiInt = number | bigint
