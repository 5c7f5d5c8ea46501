// SPDX-License-Identifier: GPL-2.0-or-later
// The kernel module by itself, without a guest: path lengths beside fio's on the same device, memory, allocations.
import type { Lab } from '../../lab/lab.ts'
import { measureAllocations } from '../kmod/allocations.ts'
import {
  type FioEngine,
  fioCommand,
  measureFio,
  measureRingloadItself,
  measureVhostBlk,
  ringloadCommand,
  type Shape,
} from '../kmod/loads.ts'
import { measureIdleMemory } from '../kmod/memory.ts'
import { device, prepareNullBlk } from '../null-blk.ts'
import type { Bench, Case, Figures, ProfiledLoad, Suite } from '../suite.ts'

/** fio's clock ticks in milliseconds: with this many, one is 0.3 % of the fastest run. */
const fioCount = 60_000
const ringloadCount = 20_000

const peers: Record<string, FioEngine> = {
  'fio-io_uring': 'io_uring',
  'fio-io_uring-fixed': 'io_uring-fixed',
  'fio-libaio': 'libaio',
}

const toKiops = (ns: number) => 1e6 / ns

async function measureShape(lab: Lab, bench: Bench, shape: Shape): Promise<Figures> {
  const ours = await measureVhostBlk(lab, device, shape, ringloadCount)
  const figures: Record<string, number> = {}
  for (const [name, engine] of Object.entries(peers)) {
    bench.report(`bench:   ${name}…`)
    figures[name] = toKiops(await measureFio(lab, device, engine, shape, fioCount))
  }
  const own = await measureRingloadItself(lab, shape, ringloadCount)
  const fioOwn = await measureFio(lab, device, 'null', shape, fioCount)
  const fioBatchedOwn = shape.depth === 1 ? fioOwn : await measureFio(lab, device, 'null-batched', shape, fioCount)
  const details = {
    'instructions per request': Math.round(ours),
    'of them the ring driver': Math.round(own),
    'of fio-io_uring': Math.round(1e6 / (figures['fio-io_uring'] as number)),
    'of them fio': Math.round(fioOwn),
    'of fio-io_uring-fixed': Math.round(1e6 / (figures['fio-io_uring-fixed'] as number)),
    'of them fio, batched': Math.round(fioBatchedOwn),
  }
  return { ours: toKiops(ours), peers: figures, details }
}

function goalsOf({ depth }: Shape): Record<string, number> {
  return depth === 1 ? { 'fio-io_uring': 0.75 } : { 'fio-io_uring-fixed': 1.25 }
}

const shapes: Shape[] = (['read', 'write'] as const).flatMap((direction) =>
  [1, 32, 128].map((depth) => ({ direction, depth })),
)

const nameOf = ({ direction, depth }: Shape) => `rand${direction}-4k-qd${depth}`

const pathLengths: Case[] = shapes.map((shape) => ({
  name: nameOf(shape),
  unit: 'kIOPS',
  better: 'higher',
  goals: goalsOf(shape),
  measure: (lab, bench) => measureShape(lab, bench, shape),
}))

const idleMemory: Case = {
  name: 'memory-idle-queue-256',
  unit: 'KiB',
  better: 'lower',
  goals: { ours: 100 },
  async measure(lab) {
    const { total, parts } = await measureIdleMemory(lab, device)
    return { ours: total, peers: {}, details: parts }
  },
}

const allocations: Case[] = (['read', 'write'] as const).map((direction) => ({
  name: `allocations-rand${direction}-4k-qd32`,
  unit: 'a request',
  better: 'lower',
  goals: { ours: 0 },
  async measure(lab) {
    const { each, callers } = await measureAllocations(lab, device, { direction, depth: 32 })
    // A thousandth a request is what timers and the tracing itself do.
    return { ours: Math.abs(each) < 0.005 ? 0 : each, peers: {}, details: callers }
  },
}))

/** Two CPUs, one for the load and one for the worker that polls, in the emulator's real time. */
const polling: Case = {
  name: 'randread-4k-qd1-polling',
  unit: 'kIOPS',
  better: 'higher',
  goals: {},
  async measure(lab, bench) {
    const shape: Shape = { direction: 'read', depth: 1 }
    const polled = await measureVhostBlk(lab, device, shape, ringloadCount, '--poll-us', '50')
    const notified = await measureVhostBlk(lab, device, shape, ringloadCount)
    bench.report('bench:   fio-io_uring…')
    const fio = await measureFio(lab, device, 'io_uring', shape, ringloadCount)
    return {
      ours: toKiops(polled),
      peers: { 'vhost-blk-notified': toKiops(notified), 'fio-io_uring': toKiops(fio) },
    }
  },
}

const profiledCommand = (name: string, command: (count: number) => string[]): ProfiledLoad => ({
  name,
  start: async (lab) => ({
    serve: async (count) => void (await lab.check(command(count), { timeoutMs: 300_000 })),
    end: async () => {},
  }),
})

const profiled: ProfiledLoad[] = [
  ...shapes.map((shape) => profiledCommand(nameOf(shape), (count) => ringloadCommand(device, shape, count))),
  ...[1, 32].map((depth) =>
    profiledCommand(`fio-io_uring-fixed-randread-4k-qd${depth}`, (count) =>
      fioCommand(device, 'io_uring-fixed', { direction: 'read', depth }, count),
    ),
  ),
]

export const kmodSuite: Suite = {
  name: 'kmod',
  title: 'the kernel module alone: path lengths, memory, allocations',
  groups: [
    {
      mode: 'instruction-counted',
      machine: { icount: true },
      bootEach: false,
      prepare: prepareNullBlk,
      cases: [...pathLengths, ...allocations, idleMemory],
    },
    {
      mode: 'wall-clock',
      machine: { smp: 2 },
      bootEach: false,
      prepare: prepareNullBlk,
      cases: [polling],
    },
  ],
  profiled,
}
