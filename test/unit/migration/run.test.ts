// SPDX-License-Identifier: GPL-2.0-or-later
// The point of no return: whether the source may ever go on again hangs on what is known of the destination's `cont`.

import { afterEach, describe, expect, test } from '@jest/globals'
import type { Side, Sides } from '../../../src/migration/options.ts'
import { runDestination } from '../../../src/migration/run.ts'
import { QmpConnectionLostError } from '../../../src/qmp/index.ts'
import { openVm } from '../../../src/vm/vm.ts'
import { answerAll, FakeMonitor, type Peer, refuse, reply, type Script } from '../qmp/fake-monitor.ts'

const monitors: FakeMonitor[] = []
let sides: Sides | undefined

afterEach(async () => {
  await Promise.all([sides?.source.qmp.close(), sides?.destination.qmp.close()])
  await Promise.all(monitors.splice(0).map((monitor) => monitor.stop()))
  sides = undefined
})

const status =
  (running: boolean): Script =>
  (command, peer) =>
    reply(peer, command, { running, status: running ? 'running' : 'paused' })

const vanish: Script = (_command, peer: Peer) => void peer.socket.destroy()

/** Two QEMUs: a source that stands still, and a destination that runs once it was told, unless a script says otherwise. */
async function twoVms(scripts: Partial<Record<Side, Record<string, Script>>> = {}) {
  let runs = false
  const source = await FakeMonitor.start(answerAll({ 'query-status': status(false), ...scripts.source }))
  const destination = await FakeMonitor.start(
    answerAll({
      cont: (command, peer) => {
        runs = true
        reply(peer, command)
      },
      'query-status': (command, peer) => status(runs)(command, peer),
      ...scripts.destination,
    }),
  )
  monitors.push(source, destination)
  sides = { source: await openVm(source.path), destination: await openVm(destination.path) }
  return { sides, source, destination }
}

test('a destination that runs says so', async () => {
  const { sides, source } = await twoVms()
  await expect(runDestination(sides)).resolves.toBe('running')
  expect(source.commands).toEqual([])
})

describe('the source may go on when the destination', () => {
  test('went away before it was told', async () => {
    const { sides, destination } = await twoVms({ destination: { stop: vanish } })
    await expect(sides.destination.qmp.execute('stop')).rejects.toThrow(QmpConnectionLostError)
    await expect(runDestination(sides)).rejects.toMatchObject({ code: 'DESTINATION_LOST', exitCode: 7 })
    expect(destination.commands).toEqual(['stop'])
  })

  test('has refused and stands still: it is not told again while the source is there', async () => {
    const { sides, destination } = await twoVms({
      destination: { cont: (command, peer) => refuse(peer, command, 'Failed to get "write" lock') },
    })
    await expect(runDestination(sides)).rejects.toMatchObject({ name: 'QmpCommandError' })
    expect(destination.commands.filter((name) => name === 'cont')).toHaveLength(1)
  })
})

test('a source that has died keeps its locks a little: the destination is told again', async () => {
  let refusals = 2
  let runs = false
  const { sides } = await twoVms({
    source: { 'query-status': vanish },
    destination: {
      cont: (command, peer) => {
        if (refusals-- > 0) return refuse(peer, command, 'Failed to get "write" lock')
        runs = true
        reply(peer, command)
      },
      'query-status': (command, peer) => status(runs)(command, peer),
    },
  })
  await expect(runDestination(sides)).resolves.toBe('running')
})

describe('nobody may say that the source can go on when the destination', () => {
  const unknown = { code: 'OUTCOME_UNKNOWN', exitCode: 8 }

  test('is lost as it is told', async () => {
    const { sides } = await twoVms({ destination: { cont: vanish } })
    await expect(runDestination(sides)).rejects.toMatchObject(unknown)
  })

  test('is lost when it was told', async () => {
    const { sides } = await twoVms({ destination: { 'query-status': vanish } })
    await expect(runDestination(sides)).rejects.toMatchObject(unknown)
  })

  test('has refused and runs all the same', async () => {
    const { sides } = await twoVms({
      destination: { cont: (command, peer) => refuse(peer, command, 'no'), 'query-status': status(true) },
    })
    await expect(runDestination(sides)).rejects.toMatchObject(unknown)
  })

  test('has refused and is lost', async () => {
    const { sides } = await twoVms({
      destination: { cont: (command, peer) => refuse(peer, command, 'no'), 'query-status': vanish },
    })
    await expect(runDestination(sides)).rejects.toMatchObject(unknown)
  })
})
