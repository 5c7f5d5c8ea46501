// SPDX-License-Identifier: GPL-2.0-or-later
// What a disk without load keeps of the kernel's memory.
import type { Lab } from '../../lab/lab.ts'
import { ringload } from './loads.ts'

const disks = 64

/**
 * What /proc/meminfo counts of memory that the kernel allots for itself: objects, large areas, per-CPU variables. Stacks of
 * threads are such areas (CONFIG_VMAP_STACK): KernelStack would count them again. Not the VMM's own memory, nor page tables for it.
 */
const counters = ['Slab', 'VmallocUsed', 'Percpu'] as const

type Counter = (typeof counters)[number]

/** The counters' values in KiB, when all that can be given back has been. */
export async function readCounters(lab: Lab): Promise<Record<Counter, number>> {
  // Empty slabs and cached files would count for whoever left them.
  const script =
    'sync; echo 3 >/proc/sys/vm/drop_caches; for s in /sys/kernel/slab/*/shrink; do echo 1 >$s; done; cat /proc/meminfo'
  const text = await lab.check(['sh', '-c', script])
  const value = (name: string) => Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(text)?.[1])
  return Object.fromEntries(counters.map((name) => [name, value(name)])) as Record<Counter, number>
}

/** Runs work while so many disks, of one queue of 256 each, are bound and idle. */
async function withIdleDisks<T>(lab: Lab, device: string, count: number, work: () => Promise<T>): Promise<T> {
  let ready = () => {}
  const isReady = new Promise<void>((resolve) => {
    ready = resolve
  })
  let said = ''
  const load = lab.spawn([ringload, 'idle', '--file', device, '--disks', `${count}`], {
    cwd: '/',
    onOutput: (data) => {
      said += data
      if (said.includes('ready')) ready()
    },
    onError: (data) => {
      said += data
    },
  })
  const early = load.exited.then((code) => {
    throw new Error(`ringload idle: exit ${code}\n${said}`)
  })
  early.catch(() => {})
  try {
    await Promise.race([isReady, early])
    return await work()
  } finally {
    load.input(Buffer.alloc(0))
    await load.exited
  }
}

/**
 * KiB of kernel memory for each idle disk of one queue of 256, its worker thread and its two eventfds included.
 *
 * @returns the sum, and what it is made of
 */
export async function measureIdleMemory(lab: Lab, device: string) {
  // The first disk also makes what all share.
  const read = () => readCounters(lab)
  const one = await withIdleDisks(lab, device, 1, read)
  const many = await withIdleDisks(lab, device, 1 + disks, read)
  const parts = Object.fromEntries(
    counters.map((name) => [`${name}, KiB`, Number(((many[name] - one[name]) / disks).toFixed(2))]),
  )
  return { total: Object.values(parts).reduce((sum, part) => sum + part, 0), parts }
}
