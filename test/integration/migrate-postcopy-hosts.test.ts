// SPDX-License-Identifier: GPL-2.0-or-later
// Postcopy between two hosts: the way for the memory is an ssh, which can break.

import { afterAll, afterEach, beforeAll, expect, jest, test } from '@jest/globals'
import type { Recovered } from '../../src/migration/recover.ts'
import type { MigratedVm } from '../../src/migration/result.ts'
import { FakeHosts } from './hosts.ts'
import { Bench, hasEnded } from './migration.ts'
import type { Qemu } from './qemu.ts'

jest.setTimeout(120_000)

let bench: Bench
let hosts: FakeHosts
let memory: { here: string[]; there: string[] }
let source: Qemu
let destination: Qemu

beforeAll(async () => {
  bench = await Bench.create()
  hosts = await FakeHosts.create(bench.dir)
  memory = await bench.muchMemory()
})
afterEach(() => bench.stopAll())
afterAll(() => bench?.remove())

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** Starts a migration, and waits until the VM runs at the destination. */
async function following(bandwidth: string) {
  source = await bench.start({ args: memory.here })
  destination = await bench.incoming({ args: memory.there })
  const options = ['--postcopy', '--postcopy-after', '0', '--bandwidth', bandwidth]
  const running = hosts.start<MigratedVm>('one', [
    'migrate',
    source.socket,
    `ssh://two${destination.socket}`,
    ...options,
  ])
  for (const end = Date.now() + 60_000; Date.now() < end; await pause(50))
    if ((await destination.qmp.execute('query-status')).running) return running
  throw new Error(`the VM does not come: ${JSON.stringify(await running.outcome)}`)
}

const hurry = () => source.qmp.execute('migrate-set-parameters', { 'max-postcopy-bandwidth': 0 })

async function expectMoved(): Promise<void> {
  expect((await destination.qmp.execute('query-migrate')).status).toBe('completed')
  expect(await hasEnded(source)).toBe(true)
  const [here, there] = [await hosts.newest('one'), await hosts.newest('two')]
  expect(here?.phase).toBe('done')
  expect(there).toEqual(here)
}

test('the memory follows a VM to another host, and through another ssh when the first breaks', async () => {
  const { outcome } = await following('1000000')
  expect(await hosts.newest('two')).toMatchObject({ phase: 'postcopy', owner: 'destination' })
  const events = source.qmp.events(({ event, data }) => event === 'MIGRATION' && data.status === 'postcopy-recover')
  await hosts.cutStream()
  await events.next({ timeoutMs: 30_000 })
  await hurry()
  expect(await outcome).toMatchObject({ exitCode: 0, result: { status: 'running', postcopy: true }, warnings: [] })
  await expectMoved()
  expect(await bench.leftovers()).toEqual([])
})

test('with the other host out of reach nothing is lost: recover goes on when it is back', async () => {
  const { outcome } = await following('1000000')
  // A QEMU with a guest that waits for memory takes no new client.
  await destination.qmp.execute('stop')
  await hosts.takeDown('two')
  expect(await outcome).toMatchObject({ exitCode: 8, error: { code: 'OUTCOME_UNKNOWN' } })
  expect(await hosts.vblk('one', 'migrate', 'recover')).toMatchObject({ exitCode: 8 })
  await hosts.bringUp('two')
  const there = await hosts.vblk('two', 'migrate', 'recover', '--peer', 'one')
  expect(there).toMatchObject({
    exitCode: 8,
    error: { hint: expect.stringMatching(/^on that host: vblk migrate recover/) },
  })
  await hurry()
  const recovered = await hosts.vblk<Recovered>('one', 'migrate', 'recover')
  expect(recovered).toMatchObject({ exitCode: 0, result: { owner: 'destination', vm: 'running' }, warnings: [] })
  await expectMoved()
})
