// SPDX-License-Identifier: GPL-2.0-or-later
// A VM that runs at the destination before all of its memory is there; what becomes of it when something is lost meanwhile.

import { readFileSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals'
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
let count = 0
const proxies: QmpProxy[] = []

beforeAll(async () => {
  bench = await Bench.create()
  memory = await bench.muchMemory()
})
afterEach(async () => {
  for (const proxy of proxies.splice(0)) await proxy.stop()
  await bench.stopAll()
  expect(await bench.leftovers()).toEqual([])
  expect(await summaries('status')).toEqual([])
})
afterAll(() => bench?.remove())

async function twoQemus(): Promise<void> {
  source = await bench.source(await bench.image(`disk${++count}.raw`), [], memory.here)
  destination = await bench.incoming({ args: memory.there })
  before = await fullState(source)
}

/** Most of the memory comes after the VM. */
const atOnce = ['--postcopy', '--postcopy-after', '0']
const inTwoSeconds = [...atOnce, '--bandwidth', '32000000']
const slowly = [...atOnce, '--bandwidth', '1000000']

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const recover = (...options: string[]) => vblk<Recovered>(['migrate', 'recover', ...options])

async function summaries(command: 'status' | 'history'): Promise<MigrationSummary[]> {
  const { envelope } = await vblk<{ migrations: MigrationSummary[] }>(['migrate', command])
  expect(envelope.error).toBeUndefined()
  return envelope.result?.migrations ?? []
}

const newest = async () => (await summaries('history')).sort((a, b) => b.startedAt.localeCompare(a.startedAt))[0]
const phases = async () => (await newest())?.phases.map(({ phase }) => phase)

const statusOf = async ({ qmp }: Qemu) => (await qmp.execute('query-migrate')).status

async function awaitStatus(qemu: Qemu, wanted: string, timeoutMs = 30_000): Promise<void> {
  for (const end = Date.now() + timeoutMs; Date.now() < end; await pause(20))
    if ((await statusOf(qemu)) === wanted) return
  throw new Error(`${qemu.socket} is not ${wanted}: ${await statusOf(qemu)}`)
}

const runs = async ({ qmp }: Qemu) => (await qmp.execute('query-status')).running

/** Lets the rest of the memory come without a limit. */
const hurry = () => source.qmp.execute('migrate-set-parameters', { 'max-postcopy-bandwidth': 0 })

type Hook = (command: string, moment: Moment) => Promise<void> | void

async function through(qemu: Qemu, hook: Hook): Promise<string> {
  const path = `${qemu.socket}.proxy`
  proxies.push(await QmpProxy.start(path, qemu.socket, hook))
  return path
}

/** Starts a slow migration, and does something to vblk at a moment of it. */
async function startAndAt(side: 'source' | 'destination', wanted: string, when: Moment, act: 'SIGKILL' | 'SIGINT') {
  let strike = () => {}
  const hook = (isSide: boolean) => async (command: string, moment: Moment) => {
    if (!isSide || command !== wanted || moment !== when) return
    strike()
    await pause(300)
  }
  const from = await through(source, hook(side === 'source'))
  const running = startMigrate(from, await through(destination, hook(side === 'destination')), ...inTwoSeconds)
  let struck = false
  strike = () => {
    if (!struck) running.process.kill(act)
    struck = true
  }
  const outcome = await running.outcome.catch(() => undefined)
  expect(struck).toBe(true)
  return outcome
}

/** A migration that is on its way when it is needed. */
async function following(...options: string[]) {
  const running = startMigrate(source.socket, destination.socket, ...(options.length === 0 ? slowly : options))
  await awaitStatus(source, 'postcopy-active')
  while (!(await runs(destination))) await pause(20)
  return running
}

async function kill(qemu: Qemu): Promise<void> {
  qemu.process.kill('SIGKILL')
  expect(await hasEnded(qemu)).toBe(true)
}

async function expectMoved(): Promise<void> {
  expect(await runs(destination)).toBe(true)
  expect(await statusOf(destination)).toBe('completed')
  expect(await hasEnded(source)).toBe(true)
  const { capabilities, devices, nodes } = before
  expect(await fullState(destination)).toMatchObject({ capabilities, devices, nodes })
  expect(await newest()).toMatchObject({ phase: 'done', owner: 'destination', vm: 'running' })
}

describe('a VM', () => {
  test('runs at the destination while its memory follows', async () => {
    await twoQemus()
    const { outcome } = await following(...inTwoSeconds)
    expect(await source.qmp.execute('query-status')).toMatchObject({ status: 'finish-migrate' })
    const { exitCode, envelope } = await outcome
    expect({ exitCode, envelope }).toMatchObject({
      exitCode: 0,
      envelope: { result: { status: 'running', postcopy: true, source: 'quit' }, warnings: [] },
    })
    const { downtimeMs, downtimePhases } = envelope.result ?? {}
    const sum = Object.values(downtimePhases ?? {}).reduce((a, b) => a + b, 0)
    expect(sum).toBeCloseTo(downtimeMs ?? 0, 3)
    await expectMoved()
    expect(await phases()).toEqual(['prepare', 'copy', 'switchover', 'handover', 'postcopy', 'finish', 'done'])
  })

  test('whose memory fits into the downtime moves without postcopy', async () => {
    await twoQemus()
    const { exitCode, envelope } = await migrate(source.socket, destination.socket, '--postcopy')
    expect({ exitCode, envelope }).toMatchObject({ exitCode: 0, envelope: { result: { postcopy: false } } })
    await expectMoved()
    expect(await phases()).toContain('commit')
  })

  test('that stands still moves without postcopy, and vblk says so', async () => {
    await twoQemus()
    await source.qmp.execute('stop')
    const { exitCode, envelope } = await migrate(source.socket, destination.socket, ...atOnce)
    expect(exitCode).toBe(0)
    expect(envelope).toMatchObject({
      result: { postcopy: false, status: 'paused' },
      warnings: [expect.stringContaining('without postcopy')],
    })
  })

  test('moves in three steps', async () => {
    await twoQemus()
    const prepared = await vblk<{ migration: string }>([
      'migrate',
      'prepare',
      source.socket,
      destination.socket,
      ...inTwoSeconds,
    ])
    expect(prepared.exitCode).toBe(0)
    expect(await vblk(['migrate', 'run'])).toMatchObject({
      exitCode: 0,
      envelope: { result: { moved: { postcopy: true, source: 'kept' } } },
    })
    expect((await vblk(['migrate', 'finish'])).exitCode).toBe(0)
    await expectMoved()
  })

  test('takes the storage along that is copied before', async () => {
    await twoQemus()
    const copy = await bench.image(`copy${count}.raw`)
    const argv = [...inTwoSeconds, '--copy-storage', `d1=${copy}`]
    const { exitCode, envelope } = await migrate(source.socket, destination.socket, ...argv)
    expect({ exitCode, envelope }).toMatchObject({
      exitCode: 0,
      envelope: { result: { postcopy: true, disks: [{ copied: { file: copy } }] } },
    })
    await expectMoved()
  })
})

describe('a way that is cut', () => {
  test.each(['source', 'destination'] as const)('as the %s notices is made anew', async (side) => {
    await twoQemus()
    const { outcome } = await following()
    const events = source.qmp.events(({ event, data }) => event === 'MIGRATION' && data.status === 'postcopy-recover')
    await (side === 'source' ? source : destination).qmp.execute('migrate-pause')
    await events.next({ timeoutMs: 30_000 })
    await hurry()
    expect(await outcome).toMatchObject({ exitCode: 0, envelope: { result: { postcopy: true }, warnings: [] } })
    await expectMoved()
  })

  test('and stays cut is told with exit code 6; recover makes it later', async () => {
    await twoQemus()
    const block: Hook = async (command, moment) => {
      if (command === 'migrate-recover' && moment === 'after') await bench.removeSockets()
    }
    const running = startMigrate(
      await through(source, () => {}),
      await through(destination, block),
      ...slowly,
      '--timeout',
      '15',
    )
    while (!(await runs(destination))) await pause(20)
    // A QEMU with a guest that waits for memory takes no new client.
    await destination.qmp.execute('stop')
    await source.qmp.execute('migrate-pause')
    const { exitCode, envelope } = await running.outcome
    expect({ exitCode, error: envelope.error }).toMatchObject({
      exitCode: 6,
      error: { code: 'MEMORY_PENDING', hint: expect.stringMatching(/vblk migrate recover [0-9a-f-]{36}$/) },
    })
    expect(await summaries('status')).toMatchObject([{ state: 'left', phase: 'postcopy', owner: 'destination' }])
    for (const proxy of proxies.splice(0)) await proxy.stop()
    await through(source, () => {})
    await through(destination, () => {})
    await hurry()
    expect(await recover()).toMatchObject({
      exitCode: 0,
      // Who has stopped it wants that.
      envelope: { result: { owner: 'destination', vm: 'stopped', message: 'the VM has moved' }, warnings: [] },
    })
    expect(await statusOf(destination)).toBe('completed')
    expect(await hasEnded(source)).toBe(true)
  })
})

const long = process.env.VBLK_LONG ? test : test.skip

long('a destination that stands still for a while gets the memory when it is back', async () => {
  await twoQemus()
  const { outcome } = await following()
  destination.process.kill('SIGSTOP')
  // For nothing comes through meanwhile.
  await awaitStatus(source, 'postcopy-paused', 60_000)
  await pause(15_000)
  destination.process.kill('SIGCONT')
  await hurry()
  expect(await outcome).toMatchObject({ exitCode: 0, envelope: { result: { postcopy: true }, warnings: [] } })
  await expectMoved()
})

describe('vblk is killed', () => {
  test.each([
    ['source', 'migrate-start-postcopy', 'after', 'switchover|copy'],
    ['source', 'migrate-continue', 'before', 'handover'],
  ] as const)('on the %s at %s (%s): the VM goes on at the source', async (side, command, moment, phase) => {
    await twoQemus()
    await startAndAt(side, command, moment, 'SIGKILL')
    expect(await summaries('status')).toMatchObject([{ state: 'left', phase: expect.stringMatching(phase) }])
    expect(await recover()).toMatchObject({ exitCode: 0, envelope: { result: { owner: 'source', vm: 'running' } } })
    expect(await fullState(source)).toEqual(before)
    expect(await hasEnded(destination)).toBe(true)
  })

  test.each([
    ['source', 'migrate-continue', 'after', 'handover'],
    ['destination', 'cont', 'before', 'postcopy'],
    ['destination', 'cont', 'after', 'postcopy'],
  ] as const)('on the %s at %s (%s): the VM goes on at the destination', async (side, command, moment, phase) => {
    await twoQemus()
    await startAndAt(side, command, moment, 'SIGKILL')
    expect(await summaries('status')).toMatchObject([{ state: 'left', phase, owner: 'destination' }])
    expect(await recover()).toMatchObject({
      exitCode: 0,
      envelope: { result: { owner: 'destination', vm: 'running' }, warnings: [] },
    })
    await expectMoved()
  })
})

describe('a wish to stop', () => {
  test('is granted as long as the source can go on', async () => {
    await twoQemus()
    expect((await startAndAt('source', 'migrate-start-postcopy', 'before', 'SIGINT'))?.exitCode).toBe(130)
    expect(await fullState(source)).toEqual(before)
  })

  test('comes too late when the source has passed the VM on', async () => {
    await twoQemus()
    const { process, outcome } = await following(...inTwoSeconds)
    expect((await vblk(['migrate', 'abort'])).envelope.error).toMatchObject({ exitCode: 5, code: 'NO_WAY_BACK' })
    expect((await recover()).envelope.error).toMatchObject({ exitCode: 9, code: 'MIGRATION_ACTIVE' })
    process.kill('SIGINT')
    expect((await outcome).exitCode).toBe(0)
    await expectMoved()
  })
})

describe('with a part of the memory on either side', () => {
  test('a source that ends is a VM that is lost', async () => {
    await twoQemus()
    const { outcome } = await following()
    await destination.qmp.execute('stop')
    await kill(source)
    expect((await outcome).envelope.error).toMatchObject({ exitCode: 8, code: 'OUTCOME_UNKNOWN' })
    const { exitCode, envelope } = await recover()
    expect(exitCode).toBe(0)
    expect(envelope).toMatchObject({ result: { owner: 'destination', vm: 'lost' } })
    expect(await hasEnded(destination)).toBe(true)
  })

  test('a destination that ends is a VM that is lost, and the source stays as it is', async () => {
    await twoQemus()
    const { outcome } = await following()
    await kill(destination)
    expect((await outcome).envelope.error).toMatchObject({ exitCode: 8, code: 'OUTCOME_UNKNOWN' })
    const { exitCode, envelope } = await recover()
    expect(exitCode).toBe(0)
    expect(envelope).toMatchObject({ result: { owner: 'destination', vm: 'lost' } })
    expect(envelope.warnings).toContainEqual(expect.stringMatching(/so never let it go on; end its QEMU$/))
    expect(await runs(source)).toBe(false)
  })
})

const isReserved = readFileSync('/proc/sys/vm/unprivileged_userfaultfd', 'utf8').trim() === '0'
const reserved = isReserved ? test : test.skip

reserved('a destination that may not use userfaultfd is refused before the first byte', async () => {
  source = await bench.start({ args: memory.here })
  destination = await bench.incoming({ args: [...memory.there, '-run-with', 'user=nobody'] })
  before = await fullState(source)
  const there = await fullState(destination)
  const { envelope } = await migrate(source.socket, destination.socket, ...atOnce)
  expect(envelope.error).toMatchObject({
    exitCode: 4,
    code: 'NO_POSTCOPY',
    hint: expect.stringContaining('vm.unprivileged_userfaultfd'),
  })
  const preflight = await vblk(['migrate', 'preflight', source.socket, destination.socket, '--postcopy'])
  expect(preflight.envelope.error).toMatchObject({ exitCode: 4, code: 'NO_POSTCOPY' })
  expect(await fullState(source)).toEqual(before)
  expect(await fullState(destination)).toEqual(there)
})

test('channels of --multifd and postcopy exclude each other', async () => {
  const { exitCode, envelope } = await migrate('/nowhere', '/nobody', '--postcopy', '--multifd', '2')
  expect(exitCode).toBe(2)
  expect(envelope.error?.message).toContain('--multifd')
})
