// SPDX-License-Identifier: GPL-2.0-or-later
// A migration between two hosts by several commands: whatever happens to a host or the way to it in between is seen.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals'
import type { Prepared } from '../../src/migration/in-parts.ts'
import type { MigrationSummary } from '../../src/migration/journal/summary.ts'
import type { Recovered } from '../../src/migration/recover.ts'
import { FakeHosts, type HostName } from './hosts.ts'
import { Bench, type Full, fullState, hasEnded } from './migration.ts'
import type { Qemu } from './qemu.ts'

jest.setTimeout(120_000)

let bench: Bench
let hosts: FakeHosts
let source: Qemu
let destination: Qemu
let there: string
let before: Full

beforeAll(async () => {
  bench = await Bench.create()
  hosts = await FakeHosts.create(bench.dir)
})
beforeEach(async () => {
  const memory = await bench.muchMemory()
  source = await bench.start({ args: memory.here })
  destination = await bench.incoming({ args: memory.there })
  there = `ssh://two${destination.socket}`
  before = await fullState(source)
})
afterEach(async () => {
  await bench.stopAll()
  for (const host of ['one', 'two'] as const) expect(await open(host)).toEqual([])
  expect(await hosts.newest('one')).toEqual(await hosts.newest('two'))
})
afterAll(() => bench?.remove())

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const prepare = (...options: string[]) =>
  hosts.vblk<Prepared>('one', 'migrate', 'prepare', source.socket, there, ...options)

async function prepared(...options: string[]): Promise<string> {
  const said = await prepare(...options)
  expect(said).toMatchObject({ exitCode: 0, result: { changed: true } })
  return said.result?.migration ?? ''
}

async function open(host: HostName): Promise<MigrationSummary[]> {
  return (await hosts.vblk<{ migrations: MigrationSummary[] }>(host, 'migrate', 'status')).result?.migrations ?? []
}

async function expectBoth(expected: Partial<MigrationSummary>): Promise<void> {
  for (const host of ['one', 'two'] as const) expect(await open(host)).toMatchObject([expected])
}

test('prepare, run and finish move a VM, each is done already the second time, and both hosts say how far it is', async () => {
  const id = await prepared('--downtime-limit', '400')
  await expectBoth({ id, state: 'waiting', phase: 'prepared', owner: 'source' })
  expect((await prepare()).result).toMatchObject({ migration: id, changed: false })
  expect((await hosts.vblk('one', 'migrate', source.socket, there)).error).toMatchObject({
    code: 'MIGRATION_UNFINISHED',
    hint: `vblk migrate run ${id}`,
  })
  expect((await hosts.vblk('one', 'migrate', 'finish')).error).toMatchObject({ code: 'MIGRATION_NOT_RUN' })
  const elsewhere = await hosts.vblk('two', 'migrate', 'run', id)
  expect(elsewhere).toMatchObject({ exitCode: 5, error: { code: 'NOT_SOURCE_HOST' } })

  const ran = await hosts.vblk('one', 'migrate', 'run', id)
  expect(ran).toMatchObject({
    exitCode: 0,
    result: { migration: id, changed: true, moved: { status: 'running', source: 'kept' } },
    warnings: [],
  })
  expect((await fullState(source)).status).toBe('postmigrate')
  expect((await fullState(destination)).status).toBe('running')
  await expectBoth({ id, state: 'waiting', phase: 'moved', owner: 'destination' })
  expect(await hosts.vblk('one', 'migrate', 'run')).toMatchObject({ exitCode: 0, result: { changed: false } })
  expect((await hosts.vblk('two', 'migrate', 'abort', '--peer', 'one')).error).toMatchObject({ code: 'MIGRATION_DONE' })

  const finished = await hosts.vblk('one', 'migrate', 'finish')
  expect(finished).toMatchObject({ exitCode: 0, result: { changed: true, source: 'quit' }, warnings: [] })
  expect(await hasEnded(source)).toBe(true)
  for (const host of ['one', 'two'] as const)
    expect(await hosts.vblk(host, 'migrate', 'finish', id)).toMatchObject({ exitCode: 0, result: { changed: false } })
  expect((await hosts.newest('two'))?.phase).toBe('done')
})

describe('prepared', () => {
  test('abort on the other host makes both sides what they were, and the destination can be used', async () => {
    const then = await fullState(destination)
    await prepared('--multifd', '2', '--bandwidth', '100000000')
    expect(await hosts.vblk('two', 'migrate', 'abort', '--peer', 'one')).toMatchObject({
      exitCode: 0,
      result: { message: 'the VM was never moved', migration: { phase: 'rolled-back' } },
    })
    expect([await fullState(source), await fullState(destination)]).toEqual([before, then])
    expect((await hosts.vblk('one', 'migrate', source.socket, there)).exitCode).toBe(0)
    expect(await bench.leftovers()).toEqual([])
  })

  test('with the way cut nothing is changed, and once it is there again the VM moves', async () => {
    const id = await prepared()
    const was = await fullState(source)
    await hosts.takeDown('two')
    for (const command of ['run', 'finish', 'abort'])
      expect([3, 5, 8]).toContain((await hosts.vblk('one', 'migrate', command, id)).exitCode)
    expect(await hosts.vblk('one', 'migrate', 'run')).toMatchObject({ exitCode: 3, error: { code: 'VM_NOT_THERE' } })
    expect(await fullState(source)).toEqual(was)
    await expectBoth({ id, state: 'waiting', phase: 'prepared' })
    await hosts.bringUp('two')
    expect((await hosts.vblk('one', 'migrate', 'run')).exitCode).toBe(0)
    expect((await hosts.vblk('one', 'migrate', 'finish')).exitCode).toBe(0)
  })

  test('the other host has rebooted since: its QEMU is gone for certain, and the source is made what it was', async () => {
    const id = await prepared('--bandwidth', '100000000')
    destination.process.kill('SIGKILL')
    await hosts.reboot('two')
    expect((await hosts.vblk('one', 'migrate', 'run')).error).toMatchObject({
      code: 'VM_NOT_THERE',
      message: `the destination ${there}: its QEMU has ended`,
      hint: `vblk migrate recover ${id}`,
    })
    expect(await hosts.vblk<Recovered>('one', 'migrate', 'recover')).toMatchObject({
      exitCode: 0,
      result: { owner: 'source', vm: 'running' },
    })
    expect(await fullState(source)).toEqual(before)
  })

  test('a run that is killed is rolled back from the other host', async () => {
    const id = await prepared('--bandwidth', '1000000')
    const running = hosts.start('one', ['migrate', 'run'])
    while ((await source.qmp.execute('query-migrate')).status !== 'active') await pause(50)
    expect((await hosts.vblk('one', 'migrate', 'run')).exitCode).toBe(9)
    const elsewhere = await hosts.vblk('two', 'migrate', 'abort')
    expect(elsewhere.error).toMatchObject({ code: 'NOT_SOURCE_HOST', exitCode: 5 })
    running.kill()
    await running.outcome
    expect(await open('one')).toMatchObject([{ id, state: 'left', phase: 'copy' }])
    expect((await hosts.vblk('one', 'migrate', 'run')).error).toMatchObject({ code: 'MIGRATION_LEFT', exitCode: 8 })
    expect(await hosts.vblk('two', 'migrate', 'recover', '--peer', 'one')).toMatchObject({
      exitCode: 0,
      result: { owner: 'source', vm: 'running' },
    })
    expect(await fullState(source)).toEqual(before)
    expect(await hasEnded(destination)).toBe(true)
  })
})

describe('moved', () => {
  beforeEach(async () => {
    await prepared()
    expect((await hosts.vblk('one', 'migrate', 'run')).exitCode).toBe(0)
  })

  test("the destination's host can finish it", async () => {
    const finished = await hosts.vblk('two', 'migrate', 'finish', '--peer', 'one')
    expect(finished).toMatchObject({ exitCode: 0, result: { source: 'quit' } })
    expect(await hasEnded(source)).toBe(true)
    expect((await fullState(destination)).status).toBe('running')
  })

  test('with the source host lost the VM goes on, and that host follows when it is back', async () => {
    await hosts.takeDown('one')
    source.process.kill('SIGKILL')
    await hosts.reboot('one')
    expect((await hosts.vblk('two', 'migrate', 'finish', '--peer', 'one')).error).toMatchObject({ exitCode: 3 })
    expect((await hosts.vblk('two', 'migrate', 'recover', '--peer', 'one')).error).toMatchObject({ exitCode: 8 })
    const recovered = await hosts.vblk('two', 'migrate', 'recover', '--peer', 'one', '--fenced', 'one')
    expect(recovered).toMatchObject({ exitCode: 0, result: { owner: 'destination', vm: 'running' } })
    await hosts.bringUp('one')
    expect(await open('one')).toMatchObject([{ state: 'waiting', phase: 'moved', owner: 'destination' }])
    expect(await hosts.vblk('one', 'migrate', 'finish')).toMatchObject({ exitCode: 0, result: { changed: false } })
    expect((await fullState(destination)).status).toBe('running')
  })
})
