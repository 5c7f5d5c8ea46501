// SPDX-License-Identifier: GPL-2.0-or-later
// The destination's QEMU is started by vblk, through a program of the user's.

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, expect, jest, test } from '@jest/globals'
import { QmpClient } from '../../src/qmp/index.ts'
import { attachDisk, Bench, fullState, migrate } from './migration.ts'
import { Qemu, vblk } from './qemu.ts'

jest.setTimeout(120_000)

let bench: Bench
let image: string
let source: Qemu
let there: string
let count = 0

beforeAll(async () => {
  bench = await Bench.create()
  image = await bench.image('disk.raw')
})
beforeEach(async () => {
  source = await bench.source(image)
  there = join(bench.dir, `started${++count}.sock`)
})
afterEach(async () => {
  await bench.stopAll()
  expect(await bench.leftovers()).toEqual([])
})
afterAll(() => bench?.remove())

/** A program of a user's. */
async function program(script: string): Promise<string> {
  const file = join(bench.dir, `start ${count}`)
  await writeFile(file, `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  return file
}

const quoted = (words: string[]) => words.map((word) => `'${word}'`).join(' ')

/** One that starts a QEMU with that machine. */
async function starter(machine = 'q35'): Promise<string> {
  const command = await Qemu.command(there, { args: ['-machine', machine, '-incoming', 'defer'] })
  return await program(`[ "$1" = '${there}' ] && [ $# -eq 1 ] || exit 9\nexec ${quoted(command)}`)
}

const run = async (start: string) => await migrate(source.socket, there, '--start-destination', start)

/** Waits until the QEMU that was started has ended. */
async function awaitEnd(): Promise<void> {
  for (const deadline = Date.now() + 30_000; ; await sleep(100)) {
    const client = await QmpClient.connect({ path: `${there}.test` }).catch(() => undefined)
    await client?.close()
    if (client === undefined) return
    if (Date.now() > deadline) throw new Error('the QEMU that was started lives on')
  }
}

async function end(): Promise<void> {
  const client = await QmpClient.connect({ path: `${there}.test` })
  await client.execute('quit').catch(() => {})
  await client.close()
}

test('the VM moves to a QEMU that was started for it, and the QEMU outlives vblk', async () => {
  const { exitCode, envelope } = await run(await starter())
  expect([exitCode, envelope.error]).toEqual([0, undefined])
  const list = await vblk<{ disks: unknown[] }>(['list', there])
  expect(list.envelope.result?.disks).toMatchObject([{ id: 'd1', file: image }])
  await end()
})

test('a QEMU that waits already is taken, and the program is not run', async () => {
  const destination = await bench.incoming()
  there = destination.socket
  expect((await run(await program('exit 1'))).exitCode).toBe(0)
})

test('a QEMU that was started and does not fit is ended again, and the VM goes on', async () => {
  await attachDisk(source, 'd2', await bench.image('second.raw'))
  const before = await fullState(source)
  const { exitCode, envelope } = await run(await starter('pc'))
  expect([exitCode, envelope.error?.code]).toEqual([5, 'DESTINATION_DIFFERS'])
  await awaitEnd()
  expect(await fullState(source)).toEqual(before)
})

test.each<[what: string, script: string, exitCode: number, message: RegExp]>([
  ['fails', 'echo first; echo "no such machine" >&2; exit 3', 5, /ended with exit code 3: no such machine$/],
  ['fails without a word', 'exit 1', 5, /ended with exit code 1: it said nothing$/],
  ['is killed', 'kill -9 $$', 5, /ended with SIGKILL: it said nothing$/],
])('a program that %s is reported with its words, and the VM goes on', async (_, script, code, message) => {
  const before = await fullState(source)
  const { exitCode, envelope } = await run(await program(script))
  expect([exitCode, envelope.error?.code]).toEqual([code, 'DESTINATION_NOT_STARTED'])
  expect(envelope.error?.message).toMatch(message)
  expect(await fullState(source)).toEqual(before)
})

test('a program that is missing, and a destination that can not be started, are refused in one line', async () => {
  const missing = await run('/nonexistent/start')
  expect([missing.exitCode, missing.envelope.error?.message]).toEqual([
    3,
    "/nonexistent/start can't be run: there is no such program",
  ])
  const remote = await migrate(source.socket, 'tcp:127.0.0.1:1', '--start-destination', '/bin/true')
  expect([remote.exitCode, remote.envelope.error?.code]).toEqual([2, 'NOT_STARTABLE'])
  const dry = await migrate(source.socket, there, '--start-destination', '/bin/true', '--dry-run')
  expect(dry.exitCode).toBe(2)
})
