// SPDX-License-Identifier: GPL-2.0-or-later
// What a runbook tells to type.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { top } from '../lab/setup/paths.ts'

const folder = join(top, 'docs/runbooks')

interface Block {
  /** The word after `sh`: 'set' for variables of one's own, 'slow' for what takes minutes, '' or a word of its own for the rest. */
  kind: string
  text: string
}

function readBlocks(name: string): Block[] {
  const text = readFileSync(join(folder, `${name}.md`), 'utf8')
  return [...text.matchAll(/^( *)```sh ?(\w*)\n(.*?)^\1```$/gms)].map(([, indent = '', kind = '', lines = '']) => ({
    kind,
    text: lines.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
  }))
}

/**
 * A runbook's commands of a kind in order as one shell script, with other values for its variables.
 *
 * @throws Error if it sets other variables than these
 */
export function runbookScript(name: string, values: Record<string, string>, kind = ''): string {
  const blocks = readBlocks(name)
  const set = blocks.filter(({ kind }) => kind === 'set').flatMap(({ text }) => text.match(/^\w+(?==)/gm) ?? [])
  if (set.sort().join() !== Object.keys(values).sort().join()) {
    throw new Error(`${name}.md sets ${set}, and the test ${Object.keys(values)}`)
  }
  const variables = Object.entries(values).map(([variable, value]) => `${variable}='${value}'\n`)
  const commands = blocks.filter((block) => block.kind === kind).map(({ text }) => text)
  if (commands.length === 0) throw new Error(`${name}.md has no commands ${kind}`)
  return ['set -eux\n', ...variables, ...commands].join('')
}
