// SPDX-License-Identifier: GPL-2.0-or-later
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { takeNames } from '../../../../src/migration/same-host/take-names.ts'

let dir: string
let servers: Server[]
let warnings: string[]

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'vblk-names-'))
  servers = []
  warnings = []
})
afterEach(async () => {
  for (const server of servers) server.close()
  await rm(dir, { recursive: true })
})

async function listen(name: string): Promise<void> {
  const server = createServer()
  servers.push(server)
  await new Promise<void>((resolve) => server.listen(join(dir, name), resolve))
}

const take = (uid = process.getuid?.() ?? -1) =>
  takeNames([{ from: 'a.new', to: 'a' }], { cwd: dir, uid }, (message) => warnings.push(message))

test('a name that is free, or the predecessor left, is taken', async () => {
  await listen('a.new')
  expect(await take()).toEqual([join(dir, 'a')])
  expect(await readdir(dir)).toEqual(['a'])
  await listen('a.new')
  expect(await take()).toEqual([join(dir, 'a')])
  expect([await readdir(dir), warnings]).toEqual([['a'], []])
})

test('a file of another kind is not replaced', async () => {
  await listen('a.new')
  await writeFile(join(dir, 'a'), 'precious')
  expect(await take()).toEqual([])
  expect(warnings).toEqual([`${dir}/a.new could not become ${dir}/a: another file is there`])
  expect(await readFile(join(dir, 'a'), 'utf8')).toBe('precious')
})

test("another user's file is not touched", async () => {
  await listen('a.new')
  expect(await take(4242)).toEqual([])
  expect(warnings).toEqual([`${dir}/a.new could not become ${dir}/a: a file there is another user's`])
  expect(await readdir(dir)).toEqual(['a.new'])
})

test('a socket that is missing is a warning', async () => {
  expect(await take()).toEqual([])
  expect(warnings).toEqual([expect.stringMatching(/ENOENT/)])
})
