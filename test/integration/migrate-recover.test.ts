// SPDX-License-Identifier: GPL-2.0-or-later
// vblk is killed at exact moments, and QEMUs with it: what `recover` makes of it, by the journal and by real QEMUs.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals'
import type { MigrationSummary } from '../../src/migration/journal/summary.ts'
import type { Recovered } from '../../src/migration/recover.ts'
import { Bench, type Full, fullState, hasEnded, migrate, startMigrate } from './migration.ts'
import { type Qemu, vblk } from './qemu.ts'
import { type Moment, QmpProxy } from './qmp-proxy.ts'

jest.setTimeout(120_000)

let bench: Bench
let memory: { here: string[]; there: string[] }
let source: Qemu
let destination: Qemu
let before: Full
let there: Full
let count = 0
const proxies: QmpProxy[] = []

beforeAll(async () => {
  bench = await Bench.create()
  memory = await bench.muchMemory()
})
beforeEach(async () => {
  source = await bench.source(await bench.image(`disk${++count}.raw`), [], memory.here)
  destination = await bench.incoming({ args: memory.there })
  before = await fullState(source)
  there = await fullState(destination)
})
afterEach(async () => {
  for (const proxy of proxies.splice(0)) await proxy.stop()
  await bench.stopAll()
  expect(await bench.leftovers()).toEqual([])
  expect(await open()).toEqual([])
})
afterAll(() => bench?.remove())

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const recover = (...options: string[]) => vblk<Recovered>(['migrate', 'recover', ...options])

async function summaries(command: 'status' | 'history'): Promise<MigrationSummary[]> {
  const { envelope } = await vblk<{ migrations: MigrationSummary[] }>(['migrate', command])
  expect(envelope.error).toBeUndefined()
  return envelope.result?.migrations ?? []
}
const open = () => summaries('status')

/** Kills vblk before a command reaches QEMU, or before its reply reaches vblk. */
async function killAt(side: 'source' | 'destination', wanted: string, when: Moment): Promise<void> {
  let kill = () => {}
  const through = async (qemu: Qemu, isSide: boolean) => {
    const path = `${qemu.socket}.proxy`
    const hook = async (command: string, moment: Moment) => {
      if (!isSide || command !== wanted || moment !== when) return
      kill()
      await pause(300)
    }
    proxies.push(await QmpProxy.start(path, qemu.socket, hook))
    return path
  }
  const from = await through(source, side === 'source')
  const running = startMigrate(from, await through(destination, side === 'destination'))
  let killed = false
  kill = () => {
    if (!killed) running.process.kill('SIGKILL')
    killed = true
  }
  await running.outcome.catch(() => {})
  expect(killed).toBe(true)
}

/** Kills vblk while memory is copied; nothing stands between it and the QEMUs. */
async function killWhileCopying(): Promise<void> {
  const running = startMigrate(source.socket, destination.socket, '--bandwidth', '1000000')
  while ((await source.qmp.execute('query-migrate')).status !== 'active') await pause(50)
  running.process.kill('SIGKILL')
  await running.outcome.catch(() => {})
}

async function kill(qemu: Qemu): Promise<void> {
  qemu.process.kill('SIGKILL')
  expect(await hasEnded(qemu)).toBe(true)
}

describe('vblk is killed', () => {
  test.each(['before', 'after'] as const)('%s a disk is made: both sides are as before', async (moment) => {
    await killAt('destination', 'device_add', moment)
    expect(await open()).toMatchObject([{ state: 'left', phase: 'prepare', owner: 'source' }])
    expect(await recover()).toMatchObject({ exitCode: 0, envelope: { result: { owner: 'source', vm: 'running' } } })
    expect(await fullState(source)).toEqual(before)
    expect(await fullState(destination)).toEqual(there)
    expect((await migrate(source.socket, destination.socket)).exitCode).toBe(0)
  })

  test.each([
    ['source', 'migrate', 'after', 'copy'],
    ['source', 'migrate-continue', 'before', 'switchover'],
    ['source', 'migrate-continue', 'after', 'switchover'],
    ['destination', 'query-named-block-nodes', 'before', 'switchover'],
  ] as const)('on the %s at %s (%s): the VM goes on at the source', async (side, command, moment, phase) => {
    await killAt(side, command, moment)
    expect(await open()).toMatchObject([{ state: 'left', phase, owner: 'source' }])
    expect(await recover()).toMatchObject({ exitCode: 0, envelope: { result: { owner: 'source', vm: 'running' } } })
    expect(await fullState(source)).toEqual(before)
    expect(await hasEnded(destination)).toBe(true)
    expect((await recover()).envelope.result).toMatchObject({ message: 'no migration is open' })
    expect(await summaries('history')).toContainEqual(
      expect.objectContaining({ phase: 'rolled-back', vm: 'running', error: expect.stringContaining(phase) }),
    )
  })

  test.each(['before', 'after'] as const)('%s the destination was told to run: it does', async (moment) => {
    await killAt('destination', 'cont', moment)
    expect(await open()).toMatchObject([{ phase: 'commit', owner: 'destination' }])
    expect(await recover()).toMatchObject({
      exitCode: 0,
      envelope: { result: { owner: 'destination', vm: 'running' } },
    })
    expect(await destination.qmp.execute('query-status')).toMatchObject({ running: true })
    expect(await hasEnded(source)).toBe(true)
    const { capabilities, devices, nodes } = before
    expect(await fullState(destination)).toMatchObject({ capabilities, devices, nodes })
  })

  test('and the VM stays as it is: no other migration begins before recover', async () => {
    await killWhileCopying()
    const other = await migrate(source.socket, (await bench.incoming()).socket)
    expect(other.envelope.error).toMatchObject({ exitCode: 9, code: 'MIGRATION_UNFINISHED' })
    expect((await recover()).exitCode).toBe(0)
  })
})

describe('vblk is killed, and', () => {
  test('the destination with it: the VM goes on at the source', async () => {
    await killWhileCopying()
    await kill(destination)
    expect(await recover()).toMatchObject({ exitCode: 0, envelope: { result: { owner: 'source', vm: 'running' } } })
    expect(await fullState(source)).toEqual(before)
  })

  test('the source with it while memory is copied: the VM is lost, and its disks have an owner', async () => {
    await killWhileCopying()
    await kill(source)
    const { exitCode, envelope } = await recover()
    expect(exitCode).toBe(0)
    expect(envelope).toMatchObject({ result: { owner: 'source', vm: 'lost' } })
    expect(envelope.warnings).toEqual([expect.stringMatching(/^the VM is lost: the source's QEMU is gone/)])
    expect(await hasEnded(destination)).toBe(true)
  })

  test('a side out of reach: nothing is changed until someone vouches for its end', async () => {
    await killAt('destination', 'cont', 'after')
    await kill(destination)
    const refused = await recover()
    expect(refused.envelope.error).toMatchObject({ exitCode: 8, code: 'OUTCOME_UNKNOWN' })
    expect(refused.envelope.error?.message).toMatch(
      /its destination owns the disks, and its destination can't be asked/,
    )
    expect(await open()).toHaveLength(1)
    const fenced = ['--fenced', `${destination.socket}.proxy`]
    const inDoubt = await recover(...fenced)
    expect(inDoubt.envelope.error).toMatchObject({ exitCode: 8, hint: expect.stringContaining('--destination-ran no') })
    expect(await open()).toMatchObject([{ phase: 'commit', owner: 'destination' }])
    const { exitCode, envelope } = await recover(...fenced, '--destination-ran', 'yes')
    expect(exitCode).toBe(0)
    expect(envelope).toMatchObject({ result: { owner: 'destination', vm: 'lost' } })
    // It has old memory, and the destination may have written since.
    expect(await source.qmp.execute('query-status')).toMatchObject({ running: false, status: 'postmigrate' })
  })
})

test('a destination that ended before it was told to run: the VM goes on at the source, once someone says so', async () => {
  await killAt('destination', 'cont', 'before')
  await kill(destination)
  const fenced = ['--fenced', `${destination.socket}.proxy`]
  expect((await recover(...fenced)).envelope.error).toMatchObject({ exitCode: 8, code: 'OUTCOME_UNKNOWN' })
  expect(await source.qmp.execute('query-status')).toMatchObject({ status: 'postmigrate' })
  expect(await recover(...fenced, '--destination-ran', 'no')).toMatchObject({
    exitCode: 0,
    envelope: { result: { owner: 'source', vm: 'running' } },
  })
  expect(await fullState(source)).toEqual(before)
})

test('abort stops the vblk that works on it, and recover leaves that one alone', async () => {
  const { outcome } = startMigrate(source.socket, destination.socket, '--bandwidth', '1000000')
  while ((await source.qmp.execute('query-migrate')).status !== 'active') await pause(50)
  expect(await open()).toMatchObject([{ state: 'under way', phase: 'copy' }])
  expect((await recover()).envelope.error).toMatchObject({ exitCode: 9, code: 'MIGRATION_ACTIVE' })
  expect(await vblk(['migrate', 'abort'])).toMatchObject({
    exitCode: 0,
    envelope: { result: { message: 'rolled back' } },
  })
  expect((await outcome).exitCode).toBe(130)
  expect(await fullState(source)).toEqual(before)
})
