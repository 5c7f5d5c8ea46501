// SPDX-License-Identifier: GPL-2.0-or-later
// Memory that is allotted for each request in the steady state, seen by the kernel's own trace events.
import type { Lab } from '../../lab/lab.ts'
import { ringloadCommand, type Shape } from './loads.ts'

const tracing = '/sys/kernel/tracing'
const events = ['kmalloc', 'kmem_cache_alloc', 'mm_page_alloc']
const requests = 2000

/** Allocations while so many requests were served, by whoever: the VMM, the worker, interrupts. */
async function countAllocations(lab: Lab, argv: string[]): Promise<Map<string, number>> {
  const toggle = (on: 0 | 1) => events.map((event) => `echo ${on} >${tracing}/events/kmem/${event}/enable`).join(' && ')
  const script = [
    `echo 0 >${tracing}/tracing_on`,
    `echo 8192 >${tracing}/buffer_size_kb`,
    `echo >${tracing}/trace`,
    toggle(1),
    `echo 1 >${tracing}/tracing_on`,
    '"$@" >/dev/null',
    `echo 0 >${tracing}/tracing_on`,
    toggle(0),
  ].join(' && ')
  await lab.check(['sh', '-ec', script, 'sh', ...argv])
  const stats = await lab.check(['cat', `${tracing}/per_cpu/cpu0/stats`])
  if (!/^overrun: 0$/m.test(stats)) throw new Error(`the trace buffer was too small:\n${stats}`)
  const counts = new Map<string, number>()
  const trace = await lab.check(['cat', `${tracing}/trace`])
  for (const line of trace.split('\n')) {
    const match = /: (kmalloc|kmem_cache_alloc|mm_page_alloc): (?:call_site=(\S+?)\+)?/.exec(line)
    if (!match) continue
    const name = match[2] ?? match[1] ?? ''
    counts.set(name, (counts.get(name) ?? 0) + 1)
  }
  if (!counts.size) throw new Error(`the kernel traced no allocation at all:\n${trace.slice(0, 500)}`)
  return counts
}

/**
 * Allocations a request, and who asks for them: a run of twice as many requests less a run of as many, so that starting
 * and ending cancel out.
 */
export async function measureAllocations(lab: Lab, device: string, shape: Shape) {
  const once = await countAllocations(lab, ringloadCommand(device, shape, requests))
  const twice = await countAllocations(lab, ringloadCommand(device, shape, 2 * requests))
  const callers: Record<string, number> = {}
  for (const [name, count] of twice) {
    const each = (count - (once.get(name) ?? 0)) / requests
    if (Math.abs(each) >= 0.01) callers[name] = Number(each.toFixed(2))
  }
  const sum = (counts: Map<string, number>) => [...counts.values()].reduce((total, count) => total + count, 0)
  return { each: (sum(twice) - sum(once)) / requests, callers }
}
