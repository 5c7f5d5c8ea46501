// SPDX-License-Identifier: GPL-2.0-or-later
// Monitors that lie, stall, flood and close, chosen by seeded chance: whatever they do, a call ends in time, with a value or an
// error that says what was wrong, and never as a bug of ours.

import { afterEach, expect, jest, test } from '@jest/globals'
import { listDisks } from '../../../src/disk/info.ts'
import { readStats } from '../../../src/disk/stats.ts'
import { VblkError } from '../../../src/errors.ts'
import { QmpClient } from '../../../src/qmp/index.ts'
import { listSlots } from '../../../src/vm/slots.ts'
import { openVm, readFacts } from '../../../src/vm/vm.ts'
import { FakeMonitor, greeting, type Peer, reply, type Script } from './fake-monitor.ts'

jest.setTimeout(120_000)

let monitor: FakeMonitor | undefined
afterEach(() => monitor?.stop())

/** mulberry32: the same numbers for the same seed, so that a failure can be repeated. */
function chance(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

type Random = ReturnType<typeof chance>

/** Any JSON, often of nearly the right shape. */
function anyJson(random: Random, depth = 0): unknown {
  const keys = [
    'name',
    'type',
    'status',
    'running',
    'qdev',
    'inserted',
    'stats',
    'image',
    '__proto__',
    'constructor',
    'x',
  ]
  const texts = [
    '',
    'child<vhost-blk-pci>',
    'child<virtio-blk-pci>',
    '/machine/peripheral/d',
    'd',
    '\u001b[2J',
    'x'.repeat(300),
  ]
  switch (random(depth > 4 ? 6 : 8)) {
    case 0:
      return null
    case 1:
      return random(2) === 0
    case 2:
      return [0, -1, 1e308, 2 ** 53, 0.5][random(5)]
    case 3:
    case 4:
      return texts[random(texts.length)]
    case 5:
      return {}
    case 6:
      return Array.from({ length: random(4) }, () => anyJson(random, depth + 1))
    default: {
      const entries = Array.from({ length: random(6) }, () => [keys[random(keys.length)], anyJson(random, depth + 1)])
      return Object.fromEntries(entries)
    }
  }
}

const event = '{"event":"STOP","data":{},"timestamp":{"seconds":1,"microseconds":2}}\r\n'

/** Answers as a monitor might that is broken or means harm. */
function hostile(random: Random): Script {
  const misdeeds: ((peer: Peer, line: string, id: string) => void)[] = [
    (peer) => peer.socket.destroy(),
    (peer, line) => {
      peer.write(line.slice(0, random(line.length)))
      peer.socket.end()
    },
    (peer) => peer.write(Buffer.from(Array.from({ length: 200 }, () => random(256)))),
    (peer, line) => peer.write(`${line}\r\n${line}\r\n`),
    (peer) => peer.send({ return: {}, id: `vblk-${random(50)}` }),
    (peer) => peer.send({ id: 'vblk-1' }),
    (peer, line) => peer.write(`${event.repeat(6000)}${line}\r\n`),
    (peer) => peer.write(`${'['.repeat(50_000)}\r\n`),
    (peer, _line, id) => peer.write(`{"return":${'['.repeat(20_000)}${']'.repeat(20_000)},"id":"${id}"}\r\n`),
    (peer) => peer.write('x'.repeat(300_000)),
    (peer, _line, id) => peer.send({ error: [{ class: 5 }], id }),
    (peer) => peer.send({ event: 'DEVICE_DELETED', data: 'x', timestamp: null }),
    () => {},
  ]
  return (command, peer) => {
    if (command.execute === 'qmp_capabilities' && random(4) > 0) return reply(peer, command)
    const line = JSON.stringify({ return: anyJson(random), id: command.id })
    if (random(4) > 0) {
      // A byte at a time, or all at once.
      const cut = random(3) === 0 ? random(line.length) : 0
      peer.write(line.slice(0, cut))
      return peer.write(`${line.slice(cut)}\r\n`)
    }
    misdeeds[random(misdeeds.length)]?.(peer, line, command.id)
  }
}

const patience = { timeoutMs: 300 }
const uses = [
  (path: string) => openVm(path, patience).then((vm) => listDisks(vm, patience).finally(() => vm.qmp.close())),
  (path: string) =>
    openVm(path, patience).then((vm) => readStats(vm, undefined, patience).finally(() => vm.qmp.close())),
  (path: string) => openVm(path, patience).then((vm) => listSlots(vm, patience).finally(() => vm.qmp.close())),
  (path: string) => openVm(path, patience).then((vm) => readFacts(vm, patience).finally(() => vm.qmp.close())),
]

const seeds = process.env.VBLK_LONG ? 3000 : 200

test(`${seeds} hostile monitors: every use of them ends in time, and never as our bug`, async () => {
  const ends = new Map<string, number>()
  for (let seed = 1; seed <= seeds; seed++) {
    const random = chance(seed)
    monitor = await FakeMonitor.start(hostile(random), random(10) === 0 ? null : `${greeting}\r\n`)
    const began = Date.now()
    const error = await uses[random(uses.length)]?.(monitor.path).then(
      () => undefined,
      (thrown: unknown) => thrown,
    )
    const seconds = (Date.now() - began) / 1000
    expect({ seed, seconds, inTime: seconds < 20 }).toMatchObject({ inTime: true })
    if (error !== undefined && !(error instanceof VblkError && error.exitCode !== 1)) {
      throw new Error(`seed ${seed}: ${(error as Error).stack}`)
    }
    const end = error instanceof VblkError ? error.code : 'a value'
    ends.set(end, (ends.get(end) ?? 0) + 1)
    await monitor.stop()
    monitor = undefined
  }
  // The fuzzer reaches what it is for.
  expect([...ends.keys()]).toEqual(expect.arrayContaining(['QMP_PROTOCOL', 'QMP_CONNECTION_LOST', 'QMP_TIMEOUT']))
})

test('a line without an end is given up at its limit, not kept', async () => {
  monitor = await FakeMonitor.start((command, peer) => {
    if (command.execute === 'qmp_capabilities') return reply(peer, command)
    for (let i = 0; i < 64; i++) peer.write('x'.repeat(65536))
  })
  const client = await QmpClient.connect({ path: monitor.path, maxLineBytes: 1 << 20 })
  await expect(client.execute('query-status')).rejects.toMatchObject({ code: 'QMP_PROTOCOL' })
  await client.close()
})
