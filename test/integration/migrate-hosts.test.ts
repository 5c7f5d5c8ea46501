// SPDX-License-Identifier: GPL-2.0-or-later
// Migration between two hosts: what each journal says, and what becomes of the VM when a host or the way to it is lost.

import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, jest, test } from '@jest/globals'
import type { Recovered } from '../../src/migration/recover.ts'
import type { MigratedVm } from '../../src/migration/result.ts'
import { QmpClient } from '../../src/qmp/index.ts'
import { FakeHosts, type HostName } from './hosts.ts'
import { Bench, hasEnded } from './migration.ts'
import { Qemu } from './qemu.ts'
import { runbookScript } from './runbook.ts'

jest.setTimeout(120_000)

let bench: Bench
let hosts: FakeHosts
let memory: { here: string[]; there: string[] }

beforeAll(async () => {
  bench = await Bench.create()
  hosts = await FakeHosts.create(bench.dir)
  memory = await bench.muchMemory()
})
afterEach(() => bench.stopAll())
afterAll(() => bench?.remove())

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

async function twoQemus(): Promise<{ source: Qemu; destination: Qemu; there: string }> {
  const source = await bench.start({ args: memory.here })
  const destination = await bench.incoming({ args: memory.there })
  return { source, destination, there: `ssh://two${destination.socket}` }
}

/** Starts a migration that is long enough to meet it while memory is copied. */
async function copying({ source, there }: { source: Qemu; there: string }) {
  const running = hosts.start<MigratedVm>('one', ['migrate', source.socket, there, '--bandwidth', '1000000'])
  for (const end = Date.now() + 60_000; Date.now() < end; await pause(50))
    if ((await source.qmp.execute('query-migrate')).status === 'active') return running
  throw new Error(`memory is not copied: ${JSON.stringify(await running.outcome)}`)
}

const phases = async () => [(await hosts.newest('one'))?.phase, (await hosts.newest('two'))?.phase]

test('a VM moves to another host, and both journals say so', async () => {
  const { source, destination, there } = await twoQemus()
  const moved = await hosts.vblk<MigratedVm>('one', 'migrate', source.socket, there, '--multifd', '2')
  expect(moved).toMatchObject({ exitCode: 0, result: { status: 'running', source: 'quit' }, warnings: [] })
  expect((await destination.qmp.execute('query-status')).status).toBe('running')
  expect(await hasEnded(source)).toBe(true)
  expect(await phases()).toEqual(['done', 'done'])
  expect(await hosts.newest('one')).toEqual(await hosts.newest('two'))
})

test('with the way to the destination lost the VM goes on here, and what is left there is ended later', async () => {
  const qemus = await twoQemus()
  const running = await copying(qemus)
  await hosts.takeDown('two')
  expect(await running.outcome).toMatchObject({ exitCode: 7, error: { code: 'MIGRATION_ROLLED_BACK' } })
  expect((await qemus.source.qmp.execute('query-status')).status).toBe('running')
  expect(await phases()).toEqual(['rolled-back', 'copy'])
  await hosts.bringUp('two')

  const blind = await hosts.vblk('two', 'migrate', 'recover')
  expect(blind).toMatchObject({ exitCode: 8, error: { code: 'OUTCOME_UNKNOWN' } })
  expect(blind.error?.message).toContain('--peer')
  const told = await hosts.vblk<Recovered>('two', 'migrate', 'recover', '--peer', 'one')
  expect(told).toMatchObject({ exitCode: 0, result: { message: 'it is over: rolled-back' } })
  expect(await hasEnded(qemus.destination)).toBe(true)
  expect(await phases()).toEqual(['rolled-back', 'rolled-back'])
  expect((await qemus.source.qmp.execute('query-status')).status).toBe('running')
})

test('one that was left is rolled back from the other host', async () => {
  const qemus = await twoQemus()
  const running = await copying(qemus)
  const busy = await hosts.vblk('two', 'migrate', 'recover', '--peer', 'one')
  expect(busy).toMatchObject({ exitCode: 9, error: { code: 'MIGRATION_ACTIVE' } })
  running.kill()
  await running.outcome
  const recovered = await hosts.vblk<Recovered>('two', 'migrate', 'recover', '--peer', 'one')
  expect(recovered).toMatchObject({ exitCode: 0, result: { owner: 'source', vm: 'running' } })
  expect((await qemus.source.qmp.execute('query-status')).status).toBe('running')
  expect(await hasEnded(qemus.destination)).toBe(true)
  expect(await phases()).toEqual(['rolled-back', 'rolled-back'])
})

test('with the source host lost nothing is done until somebody vouches for it; that host then follows', async () => {
  const qemus = await twoQemus()
  const running = await copying(qemus)
  running.kill()
  await running.outcome
  await hosts.takeDown('one')
  await qemus.source.stop()
  const type = (host: HostName, other: HostName, step: string) =>
    hosts.script(host, runbookScript('lost-host', { other }, step))
  expect((await type('two', 'one', '')).stdout).toMatch(/ source: /)
  const unknown = await type('two', 'one', 'ask')
  expect(unknown).toMatchObject({ exitCode: 8, stderr: expect.stringContaining('No route to host') })
  expect(await phases()).toEqual(['copy', 'copy'])
  const lost = await type('two', 'one', 'fenced')
  expect(lost).toMatchObject({
    exitCode: 0,
    stdout: expect.stringContaining('the VM: lost; its disks belong to the source'),
  })
  expect(await hasEnded(qemus.destination)).toBe(true)
  await hosts.bringUp('one')
  expect(await phases()).toEqual(['copy', 'rolled-back'])
  const follows = await type('one', 'two', 'later')
  expect(follows).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('it is over: rolled-back') })
  expect(await phases()).toEqual(['rolled-back', 'rolled-back'])
})

test('the runbook of an evacuation moves every VM, and stops at one that can not go', async () => {
  const [here, there] = [join(bench.dir, 'here'), join(bench.dir, 'there')]
  await Promise.all([mkdir(here), mkdir(there)])
  const type = () => hosts.script('one', runbookScript('evacuate-a-host', { OTHER: 'two', HERE: here, THERE: there }))
  const sources = await Promise.all(['vm1', 'vm2'].map((name) => Qemu.start(here, name)))
  const waiting = { args: ['-incoming', 'defer'] }
  const destinations = [await Qemu.start(there, 'vm1', waiting)]
  try {
    const stopped = await type()
    expect(stopped).toMatchObject({ exitCode: 3, stderr: expect.stringContaining(`${there}/vm2.sock`) })
    expect((await sources[0]?.qmp.execute('query-status'))?.status).toBe('running')
    destinations.push(await Qemu.start(there, 'vm2', waiting))
    const { exitCode, stdout } = await type()
    expect({ exitCode, stdout }).toMatchObject({ exitCode: 0, stdout: expect.stringContaining(`${there}/vm2.sock`) })
    for (const source of sources) expect(await hasEnded(source)).toBe(true)
    for (const { qmp } of destinations) expect((await qmp.execute('query-status')).status).toBe('running')
    expect(await phases()).toEqual(['done', 'done'])
  } finally {
    for (const qemu of [...sources, ...destinations]) await qemu.stop()
  }
})

test('the QEMU there is started for the VM, and ended again where the VM can not move', async () => {
  const socket = join(bench.dir, 'started.sock')
  const there = `ssh://two${socket}`
  const starter = async (machine: string) => {
    const command = await Qemu.command(socket, { args: ['-machine', machine, '-incoming', 'defer'] })
    const file = join(bench.dir, `start ${machine}`)
    const words = command.map((word) => `'${word}'`).join(' ')
    // It says where it runs.
    await writeFile(
      file,
      `#!/bin/sh\n[ "$*" = '${socket}' ] || exit 9\ncat /etc/machine-id >'${file}.host'\nexec ${words}\n`,
    )
    await chmod(file, 0o755)
    return file
  }
  const source = await bench.start()
  const wrong = await starter('pc')
  const refused = await hosts.vblk('one', 'migrate', source.socket, there, '--start-destination', wrong)
  expect(refused).toMatchObject({ exitCode: 5, error: { code: 'DESTINATION_DIFFERS' }, warnings: [] })
  expect((await readFile(`${wrong}.host`, 'utf8')).trim()).toBe('2'.repeat(32))
  expect((await source.qmp.execute('query-status')).status).toBe('running')
  const gone = async () => (await hosts.vblk('one', 'list', socket)).exitCode === 3
  for (const end = Date.now() + 30_000; !(await gone()) && Date.now() < end; await pause(200));
  expect(await gone()).toBe(true)

  const right = await starter('q35')
  const moved = await hosts.vblk<MigratedVm>('one', 'migrate', source.socket, there, '--start-destination', right)
  expect(moved).toMatchObject({ exitCode: 0, result: { status: 'running', source: 'quit' }, warnings: [] })
  const client = await QmpClient.connect({ path: `${socket}.test` })
  await client.execute('quit').catch(() => {})
  await client.close()
})

test('what is not safe or not there between hosts is refused before anything is changed', async () => {
  const source = await bench.source(await bench.image('local.raw'))
  const destination = await bench.incoming()
  const there = `ssh://two${destination.socket}`
  const before = (await hosts.newest('two'))?.id
  for (const [argv, exitCode, code] of [
    [['migrate', 'preflight', source.socket, there], 5, 'DISK_NOT_SHARED'],
    [['migrate', source.socket, there], 5, 'DISK_NOT_SHARED'],
    [['migrate', 'prepare', source.socket, there], 5, 'DISK_NOT_SHARED'],
    [['migrate', source.socket, 'ssh://two/run/none.qmp', '--start-destination', 'bin/true'], 2, 'NOT_ABSOLUTE'],
    [
      ['migrate', source.socket, 'ssh://two/run/none.qmp', '--start-destination', '/bin/false'],
      5,
      'DESTINATION_NOT_STARTED',
    ],
    [['migrate', there, source.socket], 2, 'SOURCE_NOT_HERE'],
    [['migrate', source.socket, `ssh://one${destination.socket}`], 2, 'SAME_HOST'],
    [['migrate', source.socket, 'ssh://two/run/none.qmp'], 3, 'NO_SUCH_SOCKET'],
  ] as const)
    expect(await hosts.vblk('one', ...argv)).toMatchObject({ exitCode, error: { code } })
  expect((await source.qmp.execute('query-status')).status).toBe('running')
  expect((await destination.qmp.execute('query-status')).status).toBe('inmigrate')
  expect((await hosts.newest('two'))?.id).toBe(before)
})
