// SPDX-License-Identifier: GPL-2.0-or-later
// The values of QEMU's start options: "word,name=value…" (QEMU's util/keyval.c), and JSON.

/** Names and values, in order. */
type Properties = [name: string, value: unknown][]

/** The value of -device, in either of its forms: "driver,name=value…" or JSON. */
export function readDevice(value: string): {
  driver: string | undefined
  id: string | undefined
  properties: Properties
} {
  const entries = value.startsWith('{') ? fromJson(value) : fromWords(value)
  const find = (name: string) => {
    const found = entries.find(([each]) => each === name)?.[1]
    return typeof found === 'string' ? found : undefined
  }
  return { driver: find('driver'), id: find('id'), properties: entries.filter(([name]) => name !== 'driver') }
}

function fromJson(value: string): Properties {
  try {
    return Object.entries(JSON.parse(value) as Record<string, unknown>)
  } catch {
    return []
  }
}

const fromWords = (value: string): Properties =>
  splitOption(value).map((word, index) => {
    const [, name = word, rest = 'on'] = /^([^=]*)=(.*)$/s.exec(word) ?? []
    return index === 0 && name === word ? ['driver', word] : [name, rest]
  })

/** Splits at commas; two of them are one of the value. */
export function splitOption(value: string): string[] {
  const words = ['']
  for (const [part] of value.matchAll(/,,|,|[^,]+/g)) {
    if (part === ',') words.push('')
    else words.push((words.pop() ?? '') + (part === ',,' ? ',' : part))
  }
  return words
}

/** What readDevice reads, in the form that another value has. */
export function formatDevice(driver: string, properties: Properties, like: string): string {
  if (like.startsWith('{')) return JSON.stringify({ driver, ...Object.fromEntries(properties) })
  const words = properties.map(([name, value]) => `${name}=${String(value).replaceAll(',', ',,')}`)
  return [driver, ...words].join(',')
}
