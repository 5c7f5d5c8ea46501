// SPDX-License-Identifier: GPL-2.0-or-later

import { randomUUID } from 'node:crypto'

/** What QMP carries. An integer that a JavaScript number can't hold exactly (QAPI has int64 and uint64) is a bigint. */
export type Json = null | boolean | number | bigint | string | Json[] | { [key: string]: Json }

// Neither JSON.parse nor JSON.stringify of Node 20 knows bigint, so one travels as a string that begins with this mark.
// No peer can guess it, so no peer can forge one.
const mark = `bigint:${randomUUID()}:`
const markedString = new RegExp(`"${mark}(-?\\d+)"`, 'g')

const quote = 0x22
const backslash = 0x5c

/** Parses one JSON text; throws SyntaxError. */
export function parseJson(text: string): Json {
  // No integer of fewer than 16 digits is unsafe, and nearly no reply has a longer one.
  if (!/\d{16}/.test(text)) return JSON.parse(text)
  return JSON.parse(markUnsafeIntegers(text), (_key, value) =>
    typeof value === 'string' && value.startsWith(mark) ? BigInt(value.slice(mark.length)) : value,
  )
}

/** Formats a value as JSON on one line; throws TypeError for what JSON can't say. */
export function formatJson(value: unknown): string {
  return JSON.stringify(value, (_key, item) => (typeof item === 'bigint' ? mark + item : item)).replace(
    markedString,
    '$1',
  )
}

function markUnsafeIntegers(text: string): string {
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
      marked += `${text.slice(copied, match.index)}"${mark}${match[0]}"`
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
