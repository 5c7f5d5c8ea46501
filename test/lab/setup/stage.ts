// SPDX-License-Identifier: GPL-2.0-or-later
import { createHash, type Hash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cache, top } from './paths.ts'

/** One cached thing, and what it is made from. */
export interface Stage {
  name: string
  /** What the user reads while it is made. */
  title: string
  needs?: Stage[]
  /** Files and folders that it is made from, relative to the project. */
  inputs?: string[]
  /** What else it depends on: versions, options. */
  key?: () => string
  /** What it makes; the stage is stale if one is missing. Absolute. */
  outputs: string[]
  make: () => Promise<void>
}

export type Report = (line: string) => void

const buildProducts = /\.(o|ko|so|node|mod|mod\.c|cmd|order|symvers)$/

async function hashPath(hash: Hash, path: string, name: string): Promise<void> {
  const entries = await readdir(path, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOTDIR') return undefined
    throw error
  })
  if (!entries) {
    hash.update(`${name}\0`).update(await readFile(path))
    return
  }
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const child = join(path, entry.name)
    if (entry.isSymbolicLink()) hash.update(`${name}/${entry.name}\0${await readlink(child)}\0`)
    else if (!buildProducts.test(entry.name)) await hashPath(hash, child, `${name}/${entry.name}`)
  }
}

const keys = new Map<Stage, Promise<string>>()

/** The fingerprint of all that a stage is made from, the stages before it included. */
export function stageKey(stage: Stage): Promise<string> {
  let key = keys.get(stage)
  if (!key) {
    key = computeKey(stage)
    keys.set(stage, key)
  }
  return key
}

async function computeKey(stage: Stage): Promise<string> {
  const hash = createHash('sha256').update(`${stage.name}\0${stage.key?.() ?? ''}\0${await definition(stage)}\0`)
  for (const need of stage.needs ?? []) hash.update(await stageKey(need))
  for (const input of stage.inputs ?? []) await hashPath(hash, join(top, input), input)
  return hash.digest('hex')
}

/**
 * A stage's own source text, so that changing how a thing is made remakes that thing and no other. The function's text at run
 * time won't do: it depends on what translated it. A stage of a file of its own names that among its inputs instead.
 */
async function definition(stage: Stage): Promise<string> {
  if (stage.inputs?.some((input) => input.startsWith('test/lab/setup/') && input !== 'test/lab/setup/initramfs.ts'))
    return ''
  const source = await readFile(join(import.meta.dirname, 'stages.ts'), 'utf8')
  const text = source.split(/^(?=export const )/m).find((part) => part.includes(`name: '${stage.name}',`))
  if (!text) throw new Error(`stages.ts does not define the stage ${stage.name}`)
  return text
}

const stamp = (stage: Stage) => join(cache, 'stamps', stage.name)

async function isFresh(stage: Stage): Promise<boolean> {
  if (!stage.outputs.every((path) => existsSync(path))) return false
  const made = await readFile(stamp(stage), 'utf8').catch(() => '')
  return made === (await stageKey(stage))
}

/**
 * Makes what is stale, two at a time at most, each after what it needs.
 *
 * @throws what the first failing stage threw; stages already running are awaited first
 */
export async function ensure(wanted: Stage[], report: Report): Promise<void> {
  await mkdir(join(cache, 'stamps'), { recursive: true })
  let running = 0
  const waiting: (() => void)[] = []
  const done = new Map<Stage, Promise<void>>()

  const make = async (stage: Stage) => {
    await Promise.all((stage.needs ?? []).map(visit))
    if (await isFresh(stage)) return
    if (running >= 2) await new Promise<void>((resolve) => waiting.push(resolve))
    running++
    try {
      const start = Date.now()
      report(`setup: ${stage.title}…`)
      await rm(stamp(stage), { force: true })
      await stage.make()
      await writeFile(stamp(stage), await stageKey(stage))
      report(`setup: ${stage.title}: done in ${Math.round((Date.now() - start) / 1000)} s`)
    } finally {
      running--
      waiting.shift()?.()
    }
  }
  const visit = (stage: Stage): Promise<void> => {
    let promise = done.get(stage)
    if (!promise) {
      promise = make(stage)
      done.set(stage, promise)
    }
    return promise
  }

  const results = await Promise.allSettled(wanted.map(visit))
  const failed = results.find((result) => result.status === 'rejected')
  if (failed) throw failed.reason
}
