// SPDX-License-Identifier: GPL-2.0-or-later
// A migration by several commands, as scripts make it: each may be repeated, and whatever happens in between is seen.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals'
import type { Prepared } from '../../src/migration/in-parts.ts'
import type { MigrationSummary } from '../../src/migration/journal/summary.ts'
import type { Recovered } from '../../src/migration/recover.ts'
import type { MigratedVm } from '../../src/migration/result.ts'
import { attachDisk, Bench, type Full, fullState, hasEnded, migrate } from './migration.ts'
import { type Qemu, startVblk, vblk } from './qemu.ts'

jest.setTimeout(120_000)

let bench: Bench
let source: Qemu
let destination: Qemu
let before: Full
let there: Full
let memory: { here: string[]; there: string[] }
let count = 0

beforeAll(async () => {
  bench = await Bench.create()
  memory = await bench.muchMemory()
})
beforeEach(async () => {
  const image = await bench.image(`disk${++count}.raw`)
  source = await bench.source(image, ['--write-cache', 'writethrough'], memory.here)
  destination = await bench.incoming({ args: memory.there })
  before = await fullState(source)
  there = await fullState(destination)
})
afterEach(async () => {
  await bench.stopAll()
  expect(await bench.leftovers()).toEqual([])
  expect(await open()).toEqual([])
})
afterAll(() => bench?.remove())

interface Ran {
  migration: string
  changed: boolean
  moved: MigratedVm | null
}

const prepare = (...options: string[]) =>
  vblk<Prepared>(['migrate', 'prepare', source.socket, destination.socket, ...options])
const run = (...options: string[]) => vblk<Ran>(['migrate', 'run', ...options])
const finish = (...options: string[]) => vblk<{ source: string | null }>(['migrate', 'finish', ...options])

async function open(): Promise<MigrationSummary[]> {
  const { envelope } = await vblk<{ migrations: MigrationSummary[] }>(['migrate', 'status'])
  return envelope.result?.migrations ?? []
}

async function last(): Promise<MigrationSummary | undefined> {
  const { envelope } = await vblk<{ migrations: MigrationSummary[] }>(['migrate', 'history', '--last', '1'])
  return envelope.result?.migrations[0]
}

async function prepared(...options: string[]): Promise<string> {
  const { exitCode, envelope } = await prepare(...options)
  expect({ exitCode, envelope }).toMatchObject({ exitCode: 0, envelope: { result: { changed: true } } })
  return envelope.result?.migration ?? ''
}

test('prepare, run and finish move a VM, and each is done already the second time', async () => {
  const id = await prepared('--downtime-limit', '400')
  expect(await open()).toMatchObject([{ id, state: 'waiting', phase: 'prepared', owner: 'source' }])
  expect((await fullState(source)).status).toBe('running')
  expect((await prepare()).envelope.result).toEqual({
    migration: id,
    changed: false,
    vm: source.socket,
    destination: destination.socket,
    running: true,
    disks: [{ id: 'd1', datapath: 'idle', made: true }],
  })
  expect((await migrate(source.socket, destination.socket)).envelope.error).toMatchObject({
    code: 'MIGRATION_UNFINISHED',
    message: `migration ${id} of this VM waits in phase prepared; its source owns the disks`,
    hint: `vblk migrate run ${id}`,
  })
  expect((await finish(id)).envelope.error).toMatchObject({ code: 'MIGRATION_NOT_RUN', exitCode: 5 })

  const ran = await run(id)
  expect(ran).toMatchObject({
    exitCode: 0,
    envelope: {
      result: {
        migration: id,
        changed: true,
        moved: {
          status: 'running',
          source: 'kept',
          downtimeMs: expect.any(Number),
          backendStoppedBeforeSave: true,
          disks: [
            { id: 'd1', writeCache: { original: 'writethrough', before: 'writethrough', after: 'writethrough' } },
          ],
        },
      },
    },
  })
  expect((await fullState(source)).status).toBe('postmigrate')
  expect((await fullState(destination)).status).toBe('running')
  expect(await open()).toMatchObject([{ id, state: 'waiting', phase: 'moved', owner: 'destination' }])
  expect(await run(id)).toMatchObject({ exitCode: 0, envelope: { result: { changed: false, moved: null } } })
  expect((await vblk(['migrate', 'abort', id])).envelope.error).toMatchObject({ code: 'MIGRATION_DONE', exitCode: 5 })

  expect(await finish(id)).toMatchObject({ exitCode: 0, envelope: { result: { changed: true, source: 'quit' } } })
  expect(await hasEnded(source)).toBe(true)
  expect(await finish(id)).toMatchObject({ exitCode: 0, envelope: { result: { changed: false, source: null } } })
  expect(await run(id)).toMatchObject({ exitCode: 0, envelope: { result: { changed: false } } })
  expect(await fullState(destination)).toMatchObject({ capabilities: there.capabilities, parameters: there.parameters })
  expect(await last()).toMatchObject({
    id,
    phase: 'done',
    vm: 'running',
    error: null,
    downtimeMs: ran.envelope.result?.moved?.downtimeMs,
  })
})

describe('prepared', () => {
  test('abort makes both sides what they were, and the destination can be used', async () => {
    const id = await prepared('--multifd', '2', '--bandwidth', '100000000')
    const { exitCode, envelope } = await vblk<{ message: string }>(['migrate', 'abort'])
    expect({ exitCode, message: envelope.result?.message }).toEqual({ exitCode: 0, message: 'the VM was never moved' })
    expect([await fullState(source), await fullState(destination)]).toEqual([before, there])
    expect(await last()).toMatchObject({
      id,
      phase: 'rolled-back',
      error: expect.stringMatching(/aborted before it was run$/),
    })
    expect((await run(id)).envelope.error).toMatchObject({ code: 'MIGRATION_ROLLED_BACK', exitCode: 5 })
    expect((await migrate(source.socket, destination.socket)).exitCode).toBe(0)
  })

  test('a disk that has come since is made as well; the settings of prepare hold, and are put back', async () => {
    const id = await prepared('--downtime-limit', '123', '--auto-converge')
    await attachDisk(source, 'd2', await bench.image('second.raw'))
    expect((await prepare('--downtime-limit', '999')).envelope.result).toMatchObject({ migration: id, changed: false })
    expect((await source.qmp.execute('query-migrate-parameters'))['downtime-limit']).toBe(123)
    expect((await run()).envelope.result?.moved?.disks).toMatchObject([{ id: 'd1' }, { id: 'd2' }])
    expect(await finish('--keep-source')).toMatchObject({ envelope: { result: { source: 'kept' } } })
    expect(await fullState(source)).toMatchObject({
      status: 'postmigrate',
      capabilities: before.capabilities,
      parameters: before.parameters,
    })
  })

  test('a destination that has ended since is noticed, and the source is made what it was', async () => {
    const id = await prepared('--bandwidth', '100000000')
    destination.process.kill('SIGKILL')
    expect(await hasEnded(destination)).toBe(true)
    expect((await run(id)).envelope.error).toMatchObject({
      code: 'VM_NOT_THERE',
      exitCode: 3,
      message: `the destination ${destination.socket}: its QEMU has ended`,
      hint: `vblk migrate recover ${id}`,
    })
    const recovered = await vblk<Recovered>(['migrate', 'recover'])
    expect(recovered).toMatchObject({ exitCode: 0, envelope: { result: { owner: 'source', vm: 'running' } } })
    expect(await fullState(source)).toEqual(before)
  })

  test('a run that is killed leaves what recover brings to its end', async () => {
    const id = await prepared('--bandwidth', '1000')
    const running = startVblk(['migrate', 'run'])
    while ((await source.qmp.execute('query-migrate')).status !== 'active')
      await new Promise((resolve) => setTimeout(resolve, 50))
    expect(await open()).toMatchObject([{ id, state: 'under way' }])
    expect((await run()).exitCode).toBe(9)
    running.process.kill('SIGKILL')
    await running.outcome.catch(() => {})
    expect(await open()).toMatchObject([{ id, state: 'left', phase: 'copy' }])
    expect((await run()).envelope.error).toMatchObject({ code: 'MIGRATION_LEFT', exitCode: 8 })
    expect(await vblk(['migrate', 'recover'])).toMatchObject({ exitCode: 0, envelope: { result: { owner: 'source' } } })
    expect(await fullState(source)).toEqual(before)
  })
})

test('moved: recover finishes, also when the source has ended by itself', async () => {
  await prepared()
  expect((await run()).exitCode).toBe(0)
  await destination.qmp.execute('stop')
  source.process.kill('SIGKILL')
  expect(await hasEnded(source)).toBe(true)
  expect(await vblk(['migrate', 'recover'])).toMatchObject({
    exitCode: 0,
    envelope: { result: { owner: 'destination', vm: 'stopped', message: 'the VM has moved' } },
  })
  // Whoever has stopped it there wants that.
  expect((await fullState(destination)).status).toBe('paused')
})
