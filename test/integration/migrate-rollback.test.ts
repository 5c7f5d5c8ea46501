// SPDX-License-Identifier: GPL-2.0-or-later
// Failures and interruptions at exact moments: the VM goes on where it was, or the error says that nobody can tell.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals'
import { attachDisk, Bench, type Full, fullState, hasEnded, migrate, startMigrate } from './migration.ts'
import { type Qemu, vblk } from './qemu.ts'
import { type Moment, QmpProxy, type Rewrite } from './qmp-proxy.ts'

jest.setTimeout(120_000)

let bench: Bench
let image: string
let memory: { here: string[]; there: string[] }
/** For all tests that leave it as it was. */
let home: Qemu
let before: Full
const proxies: QmpProxy[] = []

beforeAll(async () => {
  bench = await Bench.create()
  image = await bench.image('disk.raw')
  memory = await bench.muchMemory()
  home = await bench.source(image, [], memory.here)
})
beforeEach(async () => {
  before = await fullState(home)
  expect(before.status).toBe('running')
})
afterEach(async () => {
  for (const proxy of proxies.splice(0)) await proxy.stop()
  await bench.stopAll(home)
  expect(await bench.leftovers()).toEqual([])
})
afterAll(() => bench?.remove())

const incoming = () => bench.incoming({ args: memory.there })
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const slowly = ['--bandwidth', '1000000']

type At = (command: string, moment: Moment) => Promise<void> | void

async function through(qemu: Qemu, at: At, rewrite?: Rewrite): Promise<string> {
  const path = `${qemu.socket}.proxy`
  proxies.push(await QmpProxy.start(path, qemu.socket, at, rewrite))
  return path
}

/** The source is as it was, and has taken its image again; the destination's QEMU is gone. */
async function expectRolledBack(destination: Qemu): Promise<void> {
  expect(await fullState(home)).toEqual(before)
  const nodes = await home.qmp.execute('query-named-block-nodes', { flat: true })
  expect(nodes.map(({ active }) => active)).toEqual(nodes.map(() => true))
  expect(await hasEnded(destination)).toBe(true)
}

describe('an interruption', () => {
  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('by %s while memory is copied', async (signal) => {
    const destination = await incoming()
    const { process, outcome } = startMigrate(home.socket, destination.socket, ...slowly)
    while ((await home.qmp.execute('query-migrate')).status !== 'active') await pause(50)
    process.kill(signal)
    const { exitCode, envelope } = await outcome
    expect(exitCode).toBe(130)
    expect(envelope.error).toMatchObject({ code: 'INTERRUPTED', message: `interrupted by ${signal} and rolled back` })
    await expectRolledBack(destination)
  })

  const onDestination = ['blockdev-add', 'device_add', 'migrate-set-capabilities', 'stop']
  const moments = (commands: string[]) =>
    commands.flatMap((command) => (['before', 'after'] as const).map((moment) => ({ moment, command })))

  test.each(moments(onDestination))('$moment $command on the destination', async ({ moment, command }) => {
    const destination = await incoming()
    const there = await fullState(destination)
    expect((await interruptAt(destination, 'destination', command, moment)).exitCode).toBe(130)
    expect(await fullState(home)).toEqual(before)
    expect(await fullState(destination)).toEqual(there)
    expect((await migrate(home.socket, destination.socket, '--dry-run')).exitCode).toBe(0)
  })

  test.each(moments(['migrate-incoming']))('$moment $command on the destination', async ({ moment, command }) => {
    const destination = await incoming()
    expect((await interruptAt(destination, 'destination', command, moment)).exitCode).toBe(130)
    await expectRolledBack(destination)
  })

  test.each(moments(['migrate', 'migrate-continue']))('$moment $command on the source', async ({ moment, command }) => {
    const destination = await incoming()
    expect((await interruptAt(destination, 'source', command, moment)).exitCode).toBe(130)
    await expectRolledBack(destination)
  })

  test('comes too late when the destination was told to run', async () => {
    const source = await bench.source(await bench.image('late.raw'), [], memory.here)
    const destination = await incoming()
    const { exitCode, envelope } = await interruptAt(destination, 'destination', 'cont', 'before', source)
    expect(exitCode).toBe(0)
    expect(envelope).toMatchObject({ ok: true, result: { status: 'running', source: 'quit' } })
    expect(await hasEnded(source)).toBe(true)
  })

  /** Lets the signal reach vblk before it hears more; what QEMU was sent still happens. */
  async function interruptAt(
    destination: Qemu,
    side: 'source' | 'destination',
    wanted: string,
    when: Moment,
    source = home,
  ) {
    let kill = () => {}
    const at: At = async (command, moment) => {
      if (command !== wanted || moment !== when) return
      kill()
      await pause(300)
    }
    const none: At = () => {}
    const from = await through(source, side === 'source' ? at : none)
    const to = await through(destination, side === 'destination' ? at : none)
    const running = startMigrate(from, to)
    let killed = false
    kill = () => {
      if (!killed) running.process.kill('SIGINT')
      killed = true
    }
    const outcome = await running.outcome
    expect(killed).toBe(true)
    return outcome
  }
})

interface Expected {
  exitCode: number
  code: string
  message: RegExp
}

const rolledBack = (message: RegExp): Expected => ({ exitCode: 7, code: 'MIGRATION_ROLLED_BACK', message })

function expectFailure(outcome: Awaited<ReturnType<typeof migrate>>, { exitCode, code, message }: Expected): void {
  expect(outcome.envelope.error).toMatchObject({ code, message: expect.stringMatching(message) })
  expect(outcome.envelope.error?.message).not.toContain('\n')
  expect(outcome.exitCode).toBe(exitCode)
}

/** A way to the source, past which the destination is killed as soon as it has all of the VM. */
async function killingWhenComplete(destination: Qemu): Promise<string> {
  let continued = false
  return await through(home, async (command, moment) => {
    if (command === 'migrate-continue') continued = true
    if (command !== 'query-migrate' || moment !== 'after' || !continued) return
    continued = false
    while ((await destination.qmp.execute('query-migrate')).status !== 'completed') await pause(20)
    process.kill(pidOf(destination), 'SIGKILL')
  })
}

describe('a failure before the point of no return', () => {
  test('the time is over', async () => {
    const destination = await incoming()
    expectFailure(
      await migrate(home.socket, destination.socket, ...slowly, '--timeout', '3'),
      rolledBack(/^the migration did not come to its end within 3 s; rolled back: the VM runs on the source$/),
    )
    await expectRolledBack(destination)
  })

  test('the destination dies while memory is copied', async () => {
    const destination = await incoming()
    const { outcome } = startMigrate(home.socket, destination.socket, ...slowly)
    while ((await home.qmp.execute('query-migrate')).status !== 'active') await pause(50)
    process.kill(pidOf(destination), 'SIGKILL')
    expectFailure(await outcome, rolledBack(/: the migration failed: .*; rolled back: the VM runs on the source$/))
    await expectRolledBack(destination)
  })

  test('the destination dies as soon as its disk is made', async () => {
    const destination = await incoming()
    let killed = false
    const from = await through(home, (command) => {
      if (command !== 'migrate-set-capabilities' || killed) return
      killed = true
      process.kill(pidOf(destination), 'SIGKILL')
    })
    expectFailure(await migrate(from, destination.socket), {
      exitCode: 7,
      code: 'DESTINATION_LOST',
      message: /^the destination went away: .*lost the connection.*; the VM is untouched$/,
    })
    await expectRolledBack(destination)
  })

  test('the destination drops its monitor while its disk is made: it may still live, until somebody vouches', async () => {
    const destination = await incoming()
    const to = await through(destination, (command, moment) => {
      if (command === 'device_add' && moment === 'before') process.kill(pidOf(destination), 'SIGKILL')
    })
    expectFailure(await migrate(home.socket, to), {
      exitCode: 8,
      code: 'OUTCOME_UNKNOWN',
      message: /; undoing what had been done failed: .* has closed its monitor, and may still live$/,
    })
    expect(await vblk(['migrate', 'recover', '--fenced', to])).toMatchObject({
      exitCode: 0,
      envelope: { result: { owner: 'source', vm: 'running' } },
    })
    await expectRolledBack(destination)
  })

  test('the destination hangs while memory is copied', async () => {
    const destination = await incoming()
    const { outcome, process: vblk } = startMigrate(home.socket, destination.socket, ...slowly)
    while ((await home.qmp.execute('query-migrate')).status !== 'active') await pause(50)
    const pid = pidOf(destination)
    process.kill(pid, 'SIGSTOP')
    vblk.kill('SIGINT')
    const { exitCode, envelope } = await outcome
    process.kill(pid, 'SIGKILL')
    expect(exitCode).toBe(130)
    expect(envelope.warnings).toEqual([expect.stringMatching(/does not answer: end its QEMU; it has no complete VM/)])
    await expectRolledBack(destination)
  })

  test('the destination cannot load the VM', async () => {
    const destination = await bench.incoming({ args: ['-m', '128M'] })
    expectFailure(
      await migrate(home.socket, destination.socket),
      rolledBack(/; the destination says: load of migration failed: .*; rolled back: the VM runs on the source$/),
    )
    await expectRolledBack(destination)
  })

  test('the destination dies when it has all of the VM', async () => {
    const destination = await incoming()
    const from = await killingWhenComplete(destination)
    expectFailure(
      await migrate(from, destination.socket),
      rolledBack(/lost the connection to QEMU.*; rolled back: the VM runs on/),
    )
    await expectRolledBack(destination)
  })

  test('the destination has another write cache', async () => {
    const destination = await incoming()
    const to = await through(
      destination,
      () => {},
      (command, reply) =>
        command.includes('"current-write-cache"') ? reply.replace('"return": true', '"return": false') : reply,
    )
    expectFailure(
      await migrate(home.socket, to),
      rolledBack(/not as it must be: d1: the write cache is writethrough, not writeback; rolled back: the VM runs on/),
    )
    await expectRolledBack(destination)
  })

  test('a backend has not stopped', async () => {
    const destination = await incoming()
    let migrating = false
    const from = await through(
      home,
      (command) => {
        if (command === 'migrate') migrating = true
        if (command === 'migrate_cancel') migrating = false
      },
      (command, reply) =>
        migrating && command.includes('"vhost-state"')
          ? reply.replace('"running-queues": 0', '"running-queues": 1')
          : reply,
    )
    expectFailure(
      await migrate(from, destination.socket),
      rolledBack(
        /^d1: its backend has not stopped: QEMU says that 1 queues run; rolled back: the VM runs on the source$/,
      ),
    )
    await expectRolledBack(destination)
  })

  test('the image is taken by a third when the destination shall run', async () => {
    const destination = await incoming()
    const third = await bench.start()
    const to = await through(destination, async (command, moment) => {
      if (command !== 'cont') return
      if (moment === 'before') await attachDisk(third, 'd1', image)
      else await third.stop()
    })
    expectFailure(await migrate(home.socket, to), rolledBack(/Failed to get "write" lock; rolled back: the VM runs on/))
    await expectRolledBack(destination)
  })

  test('a paused VM is not started, and takes its image again', async () => {
    await home.qmp.execute('stop')
    before = await fullState(home)
    const destination = await incoming()
    const from = await killingWhenComplete(destination)
    expectFailure(
      await migrate(from, destination.socket),
      rolledBack(/; rolled back: the VM stands still on the source \(postmigrate\)$/),
    )
    before = { ...before, status: 'postmigrate' }
    await expectRolledBack(destination)
    await home.qmp.execute('cont')
  })

  test('a second migration works after one that was rolled back', async () => {
    const failed = await incoming()
    expect((await migrate(home.socket, failed.socket, ...slowly, '--timeout', '2')).exitCode).toBe(7)
    const destination = await incoming()
    expect((await migrate(home.socket, destination.socket)).envelope).toMatchObject({ ok: true, warnings: [] })
    expect((await fullState(destination)).nodes).toEqual(before.nodes)
    // The VM goes home again, as the next tests want it.
    home = destination
  })
})

describe('what nobody can tell', () => {
  const unknown = (message: RegExp): Expected => ({ exitCode: 8, code: 'OUTCOME_UNKNOWN', message })

  test('a monitor that closes does not prove that its QEMU has ended', async () => {
    const destination = await incoming()
    const to = await through(destination, (command, moment) => {
      if (command === 'query-named-block-nodes' && moment === 'after') process.kill(pidOf(destination), 'SIGKILL')
    })
    const outcome = await migrate(home.socket, to)
    expectFailure(outcome, unknown(/the destination has all of the VM, does not answer, and has not provably ended/))
    expect(outcome.envelope.error?.hint).toContain(`vblk migrate recover --fenced ${to}`)
    expect(await home.qmp.execute('query-status')).toMatchObject({ status: 'postmigrate', running: false })
    expect(await vblk(['migrate', 'recover', '--fenced', to])).toMatchObject({ exitCode: 0 })
    expect(await fullState(home)).toEqual(before)
  })

  test('the destination is lost when it was told to run', async () => {
    const destination = await incoming()
    const to = await through(destination, (command, moment) => {
      if (command === 'cont' && moment === 'after') process.kill(pidOf(destination), 'SIGKILL')
    })
    const outcome = await migrate(home.socket, to)
    expectFailure(outcome, unknown(/was told to run the VM and can't be heard since: .*lost the connection/))
    expect(outcome.envelope.error?.hint).toMatch(
      /^don't start it in .*, where it stands still: "vblk migrate recover" /,
    )
    expect(await home.qmp.execute('query-status')).toMatchObject({ status: 'postmigrate', running: false })
    await home.qmp.execute('cont')
    await home.qmp.execute('migrate-set-capabilities', {
      capabilities: (['events', 'pause-before-switchover'] as const).map((capability) => ({
        capability,
        state: false,
      })),
    })
    expect(await fullState(home)).toEqual(before)
  })

  test('the source dies while memory is copied', async () => {
    const source = await bench.source(await bench.image('mortal.raw'), [], memory.here)
    const destination = await incoming()
    const { outcome } = startMigrate(source.socket, destination.socket, ...slowly)
    while ((await source.qmp.execute('query-migrate')).status !== 'active') await pause(50)
    process.kill(pidOf(source), 'SIGKILL')
    const failed = await outcome
    expectFailure(failed, unknown(/lost the connection to QEMU/))
    expect(failed.envelope.error?.hint).toMatch(/does not have all of the VM$/)
  })

  test('the source dies when the destination has all: the VM is not lost', async () => {
    const source = await bench.source(await bench.image('mortal2.raw'), [], memory.here)
    const destination = await incoming()
    const to = await through(destination, (command, moment) => {
      if (command === 'query-named-block-nodes' && moment === 'before') process.kill(pidOf(source), 'SIGKILL')
    })
    const { envelope } = await migrate(source.socket, to)
    expect(envelope).toMatchObject({ ok: true, result: { status: 'running', source: 'quit' } })
    expect(await destination.qmp.execute('query-status')).toMatchObject({ running: true })
  })

  test('the source dies when the destination has all, and its image lock outlasts it', async () => {
    const image = await bench.image('mortal3.raw')
    const source = await bench.source(image, [], memory.here)
    const destination = await incoming()
    const third = await bench.start()
    const told: string[] = []
    const to = await through(destination, async (command, moment) => {
      if (command === 'query-named-block-nodes' && moment === 'before') await source.stop()
      if (command !== 'cont') return
      told.push(moment)
      if (told.length === 1) await attachDisk(third, 'd1', image)
      if (told.length === 2) await third.stop()
    })
    const { envelope } = await migrate(source.socket, to)
    expect(envelope).toMatchObject({ ok: true, result: { status: 'running', source: 'quit' } })
    expect(await destination.qmp.execute('query-status')).toMatchObject({ running: true })
    expect(told.length).toBeGreaterThan(2)
  })
})

/** QEMU's own pid: the process that we started became it, by way of exec. */
function pidOf(qemu: Qemu): number {
  const { pid } = qemu.process
  if (pid === undefined) throw new Error(`${qemu.socket} has no process`)
  return pid
}
