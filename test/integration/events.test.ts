// SPDX-License-Identifier: GPL-2.0-or-later

import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import type { EventsResult } from '../../src/commands/events.ts'
import { makeFolder, Qemu, removeFolder, startVblk, vblk } from './qemu.ts'

jest.setTimeout(120_000)

let dir: string
let qemu: Qemu

beforeAll(async () => {
  dir = await makeFolder()
  qemu = await Qemu.start(dir, 'vm')
})

afterAll(async () => {
  await qemu?.stop()
  await removeFolder(dir)
})

/** Listens while the VM is stopped and continued over and over, and returns what was printed. */
async function listen(...argv: string[]) {
  const { outcome } = startVblk(['events', qemu.socket, ...argv], { text: true })
  let over = false
  outcome.finally(() => {
    over = true
  })
  while (!over) {
    await qemu.qmp.execute('stop')
    await qemu.qmp.execute('cont')
    await sleep(100)
  }
  return outcome
}

test('each event is a document on its own line, and the last line is the outcome', async () => {
  const { exitCode, stdout } = await listen('--count', '2', '--timeout', '60', '--json')
  expect(exitCode).toBe(0)
  const lines = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(lines).toEqual([
    { ok: true, result: expect.objectContaining({ event: expect.stringMatching(/^(STOP|RESUME)$/) }), warnings: [] },
    { ok: true, result: expect.objectContaining({ event: expect.stringMatching(/^(STOP|RESUME)$/) }), warnings: [] },
    { ok: true, result: { count: 2 }, warnings: [] },
  ])
  const [first, second] = lines.map(({ result }) => result.event)
  expect(first).not.toBe(second)
})

test('--event leaves out the others', async () => {
  const { exitCode, stdout } = await listen('--count', '2', '--timeout', '60', '--event', 'RESUME')
  expect({ exitCode, stdout }).toEqual({
    exitCode: 0,
    stdout: expect.stringMatching(/^(20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z RESUME \{\}\n){2}$/),
  })
})

test('ends in time, well when nothing was expected and with 6 when something was', async () => {
  const nothing = await vblk<EventsResult>(['events', qemu.socket, '--timeout', '1'])
  expect(nothing).toMatchObject({ exitCode: 0, envelope: { result: { count: 0 } } })
  const something = await vblk(['events', qemu.socket, '--timeout', '1', '--count', '1'])
  expect(something).toMatchObject({ exitCode: 6, envelope: { error: { code: 'TIMED_OUT' } } })
})

test('nonsense is refused', async () => {
  expect((await vblk(['events', qemu.socket, '--event', 'no event'])).exitCode).toBe(2)
  expect((await vblk(['events', qemu.socket, '--count', '0'])).exitCode).toBe(2)
})

test('a VM that ends meanwhile ends it with an error', async () => {
  const victim = await Qemu.start(dir, 'victim')
  const { outcome, process } = startVblk(['events', victim.socket], { text: true })
  let listens = false
  process.stdout?.once('data', () => {
    listens = true
  })
  for (const deadline = Date.now() + 60_000; !listens && Date.now() < deadline; await sleep(100)) {
    await victim.qmp.execute('stop')
    await victim.qmp.execute('cont')
  }
  await victim.qmp.execute('quit').catch(() => {})
  const { exitCode, stdout, stderr } = await outcome
  expect({ exitCode, stderr }).toEqual({ exitCode: 3, stderr: expect.stringMatching(/^Error: .*victim\.sock/) })
  expect(stdout).toMatch(/SHUTDOWN .*host-qmp-quit/)
  await victim.stop()
})
