// SPDX-License-Identifier: GPL-2.0-or-later

import { type DiskInfo, listDisks } from '../disk/info.ts'
import { pause } from '../disk/pause.ts'
import { readVhostState } from '../disk/vhost-state.ts'
import type { Vm } from '../vm/vm.ts'
import { send } from './commands.ts'
import { isCounterpart } from './differences.ts'
import type { Report, Sides } from './options.ts'
import { endCommands, type Remains } from './plan.ts'

/** What is seen after the point of no return. */
export interface Finish {
  /** The destination's disks, in the plan's order; undefined for one that could not be read. */
  disks: (DiskInfo | undefined)[]
  source: 'quit' | 'kept'
}

const answerMs = 10_000
const datapathMs = 3000
const pollMs = 50

/**
 * Ends the source and looks at the destination. The VM has moved: what fails from here on is a warning, and the user's wish
 * to stop comes too late.
 */
export async function finish(sides: Sides, plan: Remains, report: Report): Promise<Finish> {
  return await report.step('ending the source', async () => {
    const source = await endSource(sides, plan, report)
    return { source, disks: await readDisks(sides.destination, plan, report) }
  })
}

/** Puts the settings back and ends the source's QEMU, unless it is to be kept. */
export async function endSource(sides: Sides, plan: Remains, report: Report): Promise<Finish['source']> {
  for (const command of endCommands(plan)) {
    const vm = sides[command.side]
    try {
      await send(sides, command, { timeoutMs: answerMs })
    } catch (error) {
      if (vm === sides.source && vm.qmp.runstate !== 'running') continue
      report.warn(`${vm.name}: the VM has moved, but ${command.execute} failed: ${(error as Error).message}`)
    }
  }
  if (!plan.keepSource) await awaitClose(sides.source)
  return sides.source.qmp.runstate === 'running' ? 'kept' : 'quit'
}

async function awaitClose({ qmp }: Vm): Promise<void> {
  if (qmp.runstate !== 'running') return
  const events = qmp.events(() => false)
  await events.next({ timeoutMs: answerMs }).catch(() => {})
  events.close()
}

/** The destination's disks, once the kernel has had time to take over. */
export async function readDisks(destination: Vm, plan: Remains, report: Report): Promise<Finish['disks']> {
  try {
    await awaitKernel(destination, plan)
    const found = await listDisks(destination, { timeoutMs: answerMs })
    const disks = plan.disks.map(({ source }) => found.find((disk) => isCounterpart(source, disk)))
    for (const [index, { name, source }] of plan.disks.entries()) {
      const disk = disks[index]
      if (source.datapath === 'kernel' && disk !== undefined && disk.datapath !== 'kernel') {
        report.warn(`${name}: the kernel served it on the source and does not on the destination: ${disk.reason}`)
      }
    }
    return disks
  } catch (error) {
    report.warn(`${destination.name}: the VM has moved, but its disks can't be read: ${(error as Error).message}`)
    return plan.disks.map(() => undefined)
  }
}

/** The kernel takes over as the VM starts; give it a moment to. */
async function awaitKernel(destination: Vm, { wasRunning, disks }: Remains): Promise<void> {
  const deadline = Date.now() + (wasRunning ? datapathMs : 0)
  for (const { source, destination: there } of disks) {
    if (source.datapath !== 'kernel') continue
    while (Date.now() < deadline && (await readVhostState(destination, there.path))?.active === false)
      await pause(pollMs)
  }
}
