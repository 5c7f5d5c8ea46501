// SPDX-License-Identifier: GPL-2.0-or-later
// The simulated QEMU and a real one are given the same commands, and must come to the same states.

import { isDeepStrictEqual } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals'
import type { SideCommand } from '../../src/migration/commands.ts'
import type { Side } from '../../src/migration/options.ts'
import { type CommandName, QmpClient, QmpCommandError } from '../../src/qmp/index.ts'
import { Bench, migrate } from '../integration/migration.ts'
import { type Circumstances, World } from './world.ts'

jest.setTimeout(120_000)

let bench: Bench
let count = 0

beforeAll(async () => {
  bench = await Bench.create()
  memory = await bench.muchMemory()
})
afterEach(() => bench.stopAll())
afterAll(() => bench?.remove())

type Clients = Record<Side, QmpClient>
type Step = Pick<SideCommand, 'side'> & { execute: string; arguments: Record<string, unknown> }

let memory: { here: string[]; there: string[] }

/** A simulated pair, and how it goes on from what a real one does in more than one way. */
async function simulate(circumstances: Circumstances): Promise<Clients> {
  const world = new World([], circumstances)
  // Its guest has changed nothing yet.
  if (world.source.disk !== undefined) world.source.disk.current = world.source.disk.original
  const client = (side: Side) => QmpClient.connect({ path: side, open: async () => world[side].connect() })
  return { source: await client('source'), destination: await client('destination') }
}

/** A real pair and simulated ones, the source with a disk, and the commands that migrate it. */
async function pairs(...ways: Circumstances[]) {
  return await pairsWith([], ways)
}

/** The same for a migration with more options. */
async function pairsWith(
  more: string[],
  ways: Circumstances[] = [],
): Promise<{ real: Clients; simulated: Clients[]; steps: Step[] }> {
  const source = await bench.source(await bench.image(`disk${++count}.raw`), [], memory.here)
  const destination = await bench.incoming({ args: memory.there })
  const { envelope } = await migrate(
    source.socket,
    destination.socket,
    ...(more.includes('--bandwidth') ? [] : ['--bandwidth', '100000000']),
    '--dry-run',
    ...more,
  )
  const uri = `unix:${bench.dir}/stream${count}`
  const socket = `${bench.dir}/nbd${count}`
  const steps = (envelope.result?.commands ?? []).map(({ side, execute, arguments: args }) => ({
    side,
    execute,
    arguments: JSON.parse(JSON.stringify(args), (key, value) =>
      key === 'uri' ? uri : key === 'path' && `${value}`.endsWith('/nbd.sock') ? socket : value,
    ),
  }))
  return {
    real: { source: source.qmp, destination: destination.qmp },
    simulated: await Promise.all((ways.length === 0 ? [{}] : ways).map(simulate)),
    steps,
  }
}

async function execute(clients: Clients, { side, execute: name, arguments: args }: Step): Promise<string> {
  try {
    await clients[side].execute(name as CommandName as 'stop', args as Record<string, never>)
    return 'done'
  } catch (error) {
    if (!(error instanceof QmpCommandError)) throw error
    return 'refused'
  }
}

/** What the coordinator goes by. */
async function state(qmp: QmpClient): Promise<unknown> {
  try {
    return await stateOf(qmp)
  } catch (error) {
    if (qmp.runstate !== 'running') return 'gone'
    throw error
  }
}

async function stateOf(qmp: QmpClient): Promise<unknown> {
  const { status, running } = await qmp.execute('query-status')
  const nodes = await qmp.execute('query-named-block-nodes', { flat: true })
  const capabilities = await qmp.execute('query-migrate-capabilities')
  const devices = await qmp.execute('qom-list', { path: '/machine/peripheral' })
  const parameters = await qmp.execute('query-migrate-parameters')
  return {
    status,
    running,
    migration: (await qmp.execute('query-migrate')).status ?? 'none',
    nodes: nodes.map((node) => node['node-name']).sort(),
    active: nodes.filter((node) => node.active).length,
    capabilities: capabilities.flatMap(({ capability, state: on }) => (on ? [capability] : [])).sort(),
    bandwidth: parameters['max-bandwidth'],
    disk: devices.some(({ name }) => name === 'd1') ? await disk(qmp) : null,
  }
}

async function disk(qmp: QmpClient): Promise<unknown> {
  const read = (property: string) => qmp.execute('qom-get', { path: '/machine/peripheral/d1', property })
  return { original: await read('original-write-cache'), current: await read('current-write-cache') }
}

const states = async (clients: Clients) => ({
  source: await state(clients.source),
  destination: await state(clients.destination),
})

/** Gives all of them the step, and waits until the real pair is where one of the simulated ones is. */
async function compare({ real, simulated }: { real: Clients; simulated: Clients[] }, step: Step): Promise<void> {
  const did = await execute(real, step)
  const wanted: unknown[] = []
  for (const each of simulated) {
    const byModel = await execute(each, step)
    // The model does at once what takes QEMU a while.
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
    wanted.push({ step, did: byModel, ...(await states(each)) })
  }
  const look = async () => ({ step, did, ...(await states(real)) })
  let found = await look()
  const isThere = () => wanted.some((each) => isDeepStrictEqual(found, each))
  for (const deadline = Date.now() + 60_000; Date.now() < deadline && !isThere(); found = await look())
    await new Promise((resolve) => setTimeout(resolve, 50))
  if (!isThere()) expect(found).toEqual(wanted[0])
}

const step = (side: Side, name: string, args: Record<string, unknown> = {}): Step => ({
  side,
  execute: name,
  arguments: args,
})

/** The steps up to and with the first of that name. */
const upTo = (steps: Step[], name: string): Step[] =>
  steps.slice(0, steps.findIndex((each) => each.execute === name) + 1)

describe('a real QEMU and the simulated one are in the same states', () => {
  test('all through a migration', async () => {
    const both = await pairs()
    expect(both.steps.map((each) => each.execute)).toContain('migrate-continue')
    for (const each of both.steps) await compare(both, each)
  })

  test('all through a migration that copies the storage', async () => {
    const copy = await bench.image(`copy${count + 1}.raw`)
    const both = await pairsWith(['--copy-storage', `d1=${copy}`])
    expect(both.steps.map((each) => each.execute)).toContain('blockdev-mirror')
    for (const each of both.steps) await compare(both, each)
  })

  describe('in postcopy', () => {
    /** Memory that is not there before somebody wants it to be. */
    const slowly = ['--postcopy', '--postcopy-after', '0', '--bandwidth', '500000']

    test('all through a migration', async () => {
      const both = await pairsWith(slowly)
      for (const each of upTo(both.steps, 'migrate-continue')) await compare(both, each)
      // Nobody can have the VM back.
      await compare(both, step('source', 'migrate_cancel'))
      await compare(both, step('source', 'cont'))
      await compare(both, step('source', 'stop'))
      await compare(both, step('destination', 'cont'))
      await compare(both, step('source', 'migrate-set-parameters', { 'max-postcopy-bandwidth': 0 }))
    })

    test('when the way for the memory is cut and made anew', async () => {
      const both = await pairsWith(slowly)
      for (const each of upTo(both.steps, 'migrate-continue')) await compare(both, each)
      await compare(both, step('source', 'migrate-recover', { uri: `unix:${bench.dir}/wrong` }))
      await compare(both, step('source', 'migrate-pause'))
      await compare(both, step('source', 'migrate-pause'))
      await compare(both, step('source', 'migrate_cancel'))
      await compare(both, step('source', 'cont'))
      await compare(both, step('source', 'migrate-recover', { uri: `unix:${bench.dir}/wrong` }))
      const uri = `unix:${bench.dir}/again${count}`
      await compare(both, step('source', 'migrate', { uri, resume: true }))
      for (const each of [`${uri}.old`, uri]) await compare(both, step('destination', 'migrate-recover', { uri: each }))
      await compare(both, step('source', 'migrate', { uri }))
      await compare(both, step('source', 'migrate', { uri, resume: true }))
      await compare(both, step('destination', 'cont'))
    })

    test.each(['source', 'destination'] as const)('when the %s ends', async (side) => {
      const both = await pairsWith(slowly)
      for (const each of upTo(both.steps, 'migrate-continue')) await compare(both, each)
      await compare(both, step(side, 'quit'))
    })

    test('when it is cancelled before the source has passed the VM on', async () => {
      const both = await pairsWith(slowly)
      for (const each of upTo(both.steps, 'migrate-start-postcopy')) await compare(both, each)
      await compare(both, step('source', 'migrate_cancel'))
    })

    test('when the destination ends before the source passes the VM on', async () => {
      const both = await pairsWith(slowly, [{}, { endUnnoticed: true }])
      for (const each of upTo(both.steps, 'migrate-start-postcopy')) await compare(both, each)
      await compare(both, step('destination', 'quit'))
      await compare(both, step('source', 'migrate-continue', { state: 'pre-switchover' }))
    })
  })

  test('when it is cancelled before the switchover, and the destination ends', async () => {
    const both = await pairs()
    for (const each of upTo(both.steps, 'migrate')) await compare(both, each)
    await compare(both, step('source', 'migrate_cancel'))
    await compare(both, step('destination', 'quit'))
  })

  test('when the destination ends before the switchover, and the source goes on', async () => {
    const both = await pairs({}, { endUnnoticed: true })
    for (const each of upTo(both.steps, 'migrate')) await compare(both, each)
    await compare(both, step('destination', 'quit'))
    await compare(both, step('source', 'migrate-continue', { state: 'pre-switchover' }))
  })

  test('when what has moved is taken back', async () => {
    const both = await pairs()
    for (const each of upTo(both.steps, 'migrate-continue')) await compare(both, each)
    await compare(both, step('destination', 'quit'))
    await compare(both, step('source', 'cont'))
  })

  test('when commands come at the wrong time', async () => {
    const both = await pairs()
    const prepared = both.steps.slice(
      0,
      both.steps.findIndex((each) => each.execute === 'migrate-incoming'),
    )
    await compare(both, step('source', 'migrate-continue', { state: 'pre-switchover' }))
    for (const each of prepared) await compare(both, each)
    for (const each of prepared.filter(({ execute: name }) => name === 'device_add')) await compare(both, each)
    await compare(both, step('destination', 'blockdev-del', { 'node-name': 'vblk-d1' }))
    await compare(both, step('source', 'migrate', { uri: `unix:${bench.dir}/nobody` }))
  })
})
