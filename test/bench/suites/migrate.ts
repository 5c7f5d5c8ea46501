// SPDX-License-Identifier: GPL-2.0-or-later
// Moving a VM: its downtime, and what vblk adds, beside the same VM with stock disks moved by bare QMP commands.

import { loadNullBlk } from '../../kmod/devices.ts'
import type { Lab } from '../../lab/lab.ts'
import { type Mover, measureSwitchover, type Switchover, type Vm } from '../migrate/switchover.ts'
import type { Bench, Case, Figures, Suite } from '../suite.ts'

const rounds = 3
const peer = 'bare-qmp-virtio-blk'
const timeoutMs = 2_400_000

async function prepare(lab: Lab): Promise<void> {
  await lab.check(['modprobe', 'vhost_blk'])
  await loadNullBlk(lab)
}

async function both(bench: Bench, vm: Vm): Promise<Record<Mover, Switchover>> {
  const one = (mover: Mover) => {
    bench.report(`bench:   ${mover}…`)
    return bench.inFreshMachine(mover, timeoutMs, (fresh) => measureSwitchover(fresh, mover, vm, rounds))
  }
  return { vblk: await one('vblk'), 'bare-qmp': await one('bare-qmp') }
}

async function measureDowntime(bench: Bench, vm: Vm): Promise<Figures> {
  const measured = await both(bench, vm)
  const { downtime, own } = measured.vblk
  const details = {
    "vblk's own part, ms": Number(own.toFixed(2)),
    'of the downtime, %': Number(((100 * own) / downtime).toFixed(1)),
  }
  return { ours: downtime, peers: { [peer]: measured['bare-qmp'].downtime }, details }
}

/** What vblk itself does while the VM stands still. */
async function measureShare(bench: Bench): Promise<Figures> {
  bench.report('bench:   vblk…')
  const { downtime, own } = await bench.inFreshMachine('vblk', timeoutMs, (fresh) =>
    measureSwitchover(fresh, 'vblk', { disks: 1 }, rounds),
  )
  return { ours: (100 * own) / downtime, peers: {}, details: { 'downtime, ms': Number(downtime.toFixed(2)) } }
}

async function measureWhole(bench: Bench): Promise<Figures> {
  const measured = await both(bench, { disks: 1, memory: 1024 })
  const [ours, theirs] = [measured.vblk.whole, measured['bare-qmp'].whole]
  return {
    ours: ours - theirs,
    peers: {},
    details: { 'vblk, ms': Math.round(ours), [`${peer}, ms`]: Math.round(theirs) },
  }
}

const cases: Case[] = [
  {
    name: 'switchover-1-disk',
    unit: 'ms',
    better: 'lower',
    goals: { [peer]: 1.05 },
    measure: (_lab, bench) => measureDowntime(bench, { disks: 1 }),
  },
  {
    name: 'switchover-8-disks',
    unit: 'ms',
    better: 'lower',
    goals: { [peer]: 1.1 },
    measure: (_lab, bench) => measureDowntime(bench, { disks: 8 }),
  },
  { name: 'own-share', unit: '%', better: 'lower', goals: { ours: 5 }, measure: (_lab, bench) => measureShare(bench) },
  {
    name: 'added-1-gib',
    unit: 'ms',
    better: 'lower',
    goals: { ours: 2000 },
    measure: (_lab, bench) => measureWhole(bench),
  },
]

export const migrateSuite: Suite = {
  name: 'migrate',
  title: 'a VM that moves: its downtime, beside bare QMP and stock disks',
  groups: [
    {
      mode: 'instruction-counted',
      machine: { icount: true },
      bootEach: false,
      prepare,
      cases: cases.map((test) => ({ ...test, timeoutMs: 7_200_000 })),
    },
  ],
}
