// SPDX-License-Identifier: GPL-2.0-or-later
// The whole path from a guest: the kernel's datapath beside QEMU's own, and beside the host on the same device.

import type { Lab } from '../../lab/lab.ts'
import { measureGuest, type Setting, startLoadedGuest } from '../device/guest-load.ts'
import { measureMemory } from '../device/memory.ts'
import { measurePauses } from '../device/pauses.ts'
import { measureStop } from '../device/stop.ts'
import { measureFio, type Shape } from '../kmod/loads.ts'
import { device, prepareNullBlk } from '../null-blk.ts'
import type { Bench, Case, Figures, ProfiledLoad, Suite } from '../suite.ts'

/** Requests a round. */
const guestCount = 1_500
/** With a guest the emulator may hang when it counts instructions. */
const guestTimeoutMs = 150_000
/** fio's clock ticks in milliseconds. */
const fioCount = 40_000

const oursSetting: Setting = { name: 'vhost-blk', driver: 'vhost-blk-pci' }
const peers: Setting[] = [
  { name: 'virtio-blk-io_uring', driver: 'virtio-blk-pci' },
  { name: 'virtio-blk-iothread', driver: 'virtio-blk-pci', iothread: {} },
  { name: 'virtio-blk-iothread-nopoll', driver: 'virtio-blk-pci', iothread: { 'poll-max-ns': 0 } },
]

const toKiops = (ns: number) => 1e6 / ns

/** Of several rounds the best counts, ours as the peers'. */
async function measureShape(bench: Bench, shape: Shape): Promise<Figures> {
  const measureOne = (setting: Setting) =>
    bench.inFreshMachine(setting.name, guestTimeoutMs, (fresh) =>
      measureGuest(fresh, device, setting, shape, guestCount),
    )
  const figures: Record<string, number> = {}
  const details: Record<string, number> = {}
  for (const setting of [oursSetting, ...peers]) {
    bench.report(`bench:   ${setting.name}…`)
    const rounds = await measureOne(setting)
    const best = Math.min(...rounds)
    figures[setting.name] = toKiops(best)
    details[`instructions per request, ${setting.name}`] = Math.round(best)
    details[`in its slowest round, ${setting.name}`] = Math.round(Math.max(...rounds))
  }
  const { [oursSetting.name]: ours = Number.NaN, ...others } = figures
  bench.report('bench:   host-fio…')
  const host = await bench.inFreshMachine('host-fio', guestTimeoutMs, (fresh) =>
    measureFio(fresh, device, 'io_uring', shape, fioCount),
  )
  return { ours, peers: { ...others, 'host-fio': toKiops(host) }, details }
}

const shapes: [name: string, Shape, goal: number][] = (['read', 'write'] as const).flatMap((direction) => [
  [`rand${direction}-4k-qd1`, { direction, depth: 1 }, 2.2],
  [`rand${direction}-4k-qd32`, { direction, depth: 32 }, 2.2],
  [`rand${direction}-4k-4x8`, { direction, depth: 8, jobs: 4 }, 2],
])

const paths: Case[] = shapes.map(([name, shape, goal]) => ({
  name,
  unit: 'kIOPS',
  better: 'higher',
  goals: Object.fromEntries(peers.map(({ name }) => [name, goal])),
  measure: (_lab, bench) => measureShape(bench, shape),
  timeoutMs: 3_600_000,
}))

/** A profile is of one of them at a time. */
const profiled: ProfiledLoad[] = shapes.flatMap(([name, shape]) =>
  [oursSetting, ...peers].map((setting) => ({
    name: `${name}-${setting.name}`,
    start: async (lab) => {
      const { guest, serve, end } = await startLoadedGuest(lab, device, setting, shape)
      return { guest, serve: async (count) => void (await serve(count)), end }
    },
  })),
)

/** A stop boots a guest with room for eight disks. */
const stopTimeoutMs = 400_000

async function measureStops(bench: Bench): Promise<Figures> {
  const measureOne = (driver: string, count: number) => {
    bench.report(`bench:   ${driver}, ${count}…`)
    return bench.inFreshMachine(`${driver}, ${count}`, stopTimeoutMs, (fresh) => measureStop(fresh, driver, count))
  }
  const ours = await measureOne('vhost-blk-pci', 8)
  return {
    ours,
    peers: {
      'vhost-blk-1-disk': await measureOne('vhost-blk-pci', 1),
      'virtio-blk-8-disks': await measureOne('virtio-blk-pci', 8),
      'virtio-blk-1-disk': await measureOne('virtio-blk-pci', 1),
    },
  }
}

const stops: Case = {
  name: 'stop-8-disks',
  unit: 'us',
  better: 'lower',
  goals: { 'vhost-blk-1-disk': 1.5 },
  measure: (_lab, bench) => measureStops(bench),
  timeoutMs: 3_600_000,
}

/** Of a guest with one disk under load: a stop and a start of the VM, or a switch there and back. */
function pausesOf(bench: Bench, setting: Setting) {
  bench.report(`bench:   ${setting.name}…`)
  return bench.inFreshMachine(setting.name, stopTimeoutMs, (fresh) => measurePauses(fresh, device, setting))
}

async function measureDrain(bench: Bench): Promise<Figures> {
  const { stop: ours } = await pausesOf(bench, oursSetting)
  const figures: Record<string, number> = {}
  for (const setting of peers) figures[setting.name] = (await pausesOf(bench, setting)).stop
  return { ours, peers: figures }
}

async function measureSwitch(bench: Bench): Promise<Figures> {
  const { leave = Number.NaN, enter = Number.NaN } = await pausesOf(bench, oursSetting)
  const figures: Record<string, number> = {}
  for (const setting of peers) {
    const { stop, cont } = await pausesOf(bench, setting)
    figures[`${setting.name}-stop-cont`] = stop + cont
  }
  return {
    ours: Math.max(leave, enter),
    peers: figures,
    details: { 'to userspace, us': Math.round(leave), 'to the kernel, us': Math.round(enter) },
  }
}

const pauses: Case[] = [
  { name: 'drain-qd32', measure: measureDrain },
  { name: 'switch-qd32', measure: measureSwitch },
].map(({ name, measure }) => ({
  name,
  unit: 'us',
  better: 'lower',
  goals: {},
  measure: (_lab, bench) => measure(bench),
  timeoutMs: 3_600_000,
}))

async function measureMemories(lab: Lab, bench: Bench): Promise<Figures> {
  const sums: Record<string, number> = {}
  const details: Record<string, number> = {}
  for (const driver of ['vhost-blk-pci', 'virtio-blk-pci']) {
    bench.report(`bench:   ${driver}…`)
    const { qemu, kernel } = await measureMemory(lab, driver)
    sums[driver] = qemu + kernel
    details[`QEMU's, ${driver}`] = Math.round(qemu)
    details[`the kernel's, ${driver}`] = Math.round(kernel)
  }
  const { 'vhost-blk-pci': ours = Number.NaN, ...others } = sums
  return { ours, peers: others, details }
}

const memoryPerDisk: Case = {
  name: 'memory-per-disk',
  unit: 'KiB',
  better: 'lower',
  goals: {},
  measure: measureMemories,
}

export const deviceSuite: Suite = {
  name: 'device',
  title: "a guest's disk: the kernel datapath beside QEMU's own",
  groups: [
    {
      mode: 'instruction-counted',
      machine: { icount: true },
      bootEach: false,
      prepare: prepareNullBlk,
      cases: [...paths, stops, ...pauses],
    },
    { mode: 'wall-clock', machine: {}, bootEach: false, prepare: prepareNullBlk, cases: [memoryPerDisk] },
  ],
  profiled,
}
