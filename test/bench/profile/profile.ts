// SPDX-License-Identifier: GPL-2.0-or-later
// Where the instructions of one request go: count.c counts them in the emulator, by address; L1's symbols name them.
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { table } from '../../../src/ui/table.ts'
import { Lab } from '../../lab/lab.ts'
import { run } from '../../lab/setup/run.ts'
import { countPlugin } from '../../lab/setup/stages.ts'
import type { ProfiledLoad, Reporter, Suite } from '../suite.ts'

/** The second run serves twice as many: what both do to start and end cancels out. */
const requests = 4000

export interface FunctionCost {
  function: string
  /** `kernel`, a module's name, or `user`. */
  module: string
  group: string
  /** Per request. */
  instructions: number
}

export interface Profile {
  load: string
  /** Instructions per request. */
  total: number
  groups: Record<string, number>
  functions: FunctionCost[]
}

type Counts = Map<bigint, number>

/** The counter in L1's emulator, asked through a FIFO. */
class Counter {
  readonly #dir: string
  #dumps = 0

  private constructor(dir: string) {
    this.#dir = dir
  }

  static async create(): Promise<Counter> {
    const counter = new Counter(await mkdtemp(join(tmpdir(), 'vblk-count-')))
    await run('mkfifo', [counter.#fifo])
    return counter
  }

  get #fifo(): string {
    return join(this.#dir, 'requests')
  }

  get plugin(): string {
    return `${countPlugin},requests=${this.#fifo}`
  }

  async read(): Promise<Counts> {
    const path = join(this.#dir, `counts-${this.#dumps++}`)
    await writeFile(this.#fifo, `${path}\n`)
    for (let waited = 0; !existsSync(path); waited += 20) {
      if (waited > 30_000) throw new Error('the instruction counter does not answer')
      await sleep(20)
    }
    const counts: Counts = new Map()
    for (const line of (await readFile(path, 'utf8')).split('\n')) {
      const [address, count] = line.split(' ')
      if (address && count) counts.set(BigInt(`0x${address}`), Number(count))
    }
    await rm(path)
    return counts
  }

  async remove(): Promise<void> {
    await rm(this.#dir, { recursive: true })
  }
}

interface Symbols {
  addresses: bigint[]
  names: { function: string; module: string }[]
}

/** L1's functions by address, its modules' included. */
async function readSymbols(lab: Lab): Promise<Symbols> {
  const symbols: { address: bigint; function: string; module: string }[] = []
  for (const line of (await lab.check(['cat', '/proc/kallsyms'])).split('\n')) {
    const match = /^([0-9a-f]+) [tTwW] (\S+)(?:\t\[(\S+)\])?$/.exec(line)
    if (match)
      symbols.push({ address: BigInt(`0x${match[1]}`), function: match[2] as string, module: match[3] ?? 'kernel' })
  }
  symbols.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0))
  return { addresses: symbols.map((symbol) => symbol.address), names: symbols }
}

function nameOf(symbols: Symbols, address: bigint): { function: string; module: string } {
  if (address === 0n) return { function: '(user space)', module: 'user' }
  let low = 0
  let high = symbols.addresses.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((symbols.addresses[middle] as bigint) <= address) low = middle + 1
    else high = middle
  }
  return symbols.names[low - 1] ?? { function: `0x${address.toString(16)}`, module: 'kernel' }
}

function groupOf(suite: Suite, cost: { function: string; module: string }): string {
  const name = cost.module === 'kernel' ? cost.function : `${cost.module}:${cost.function}`
  return suite.functionGroups?.find(([, pattern]) => pattern.test(name))?.[0] ?? 'other'
}

async function profileLoad(suite: Suite, lab: Lab, counter: Counter, load: ProfiledLoad): Promise<Profile> {
  const serve = async (count: number) => {
    await lab.check(load.command(count), { timeoutMs: 300_000 })
    return await counter.read()
  }
  await serve(requests)
  const before = await counter.read()
  const between = await serve(requests)
  const after = await serve(2 * requests)
  // Modules may have come with the first run.
  const symbols = await readSymbols(lab)

  const costs = new Map<string, FunctionCost>()
  for (const [address, count] of after) {
    const first = (between.get(address) ?? 0) - (before.get(address) ?? 0)
    const second = count - (between.get(address) ?? 0)
    const name = nameOf(symbols, address)
    const key = `${name.module}:${name.function}`
    const cost = costs.get(key) ?? { ...name, group: groupOf(suite, name), instructions: 0 }
    cost.instructions += (second - first) / requests
    costs.set(key, cost)
  }
  const functions = [...costs.values()].sort((a, b) => b.instructions - a.instructions)
  const groups: Record<string, number> = {}
  for (const cost of functions) groups[cost.group] = (groups[cost.group] ?? 0) + cost.instructions
  const total = functions.reduce((sum, cost) => sum + cost.instructions, 0)
  return { load: load.name, total, groups, functions }
}

/** Counts the instructions of the suite's loads, those named or all. */
export async function profile(suite: Suite, wanted: string[], bench: Reporter): Promise<Profile[]> {
  const [group] = suite.groups
  const counter = await Counter.create()
  let lab: Lab | undefined
  try {
    lab = await Lab.start({ ...group?.machine, plugin: counter.plugin, report: bench.report })
    await group?.prepare(lab)
    const profiles: Profile[] = []
    for (const load of suite.profiled ?? []) {
      if (wanted.length && !wanted.includes(load.name)) continue
      bench.report(`bench: profile of ${load.name}…`)
      profiles.push(await profileLoad(suite, lab, counter, load))
    }
    return profiles
  } finally {
    await lab?.stop()
    await counter.remove()
  }
}

/** A table of the groups, then one of the functions that matter. */
export function renderProfile({ load, total, groups, functions }: Profile): string {
  const share = (value: number) => `${((100 * value) / total).toFixed(1)} %`
  const byGroup = Object.entries(groups).sort(([, a], [, b]) => b - a)
  const summary = table(byGroup, [
    { header: 'GROUP', value: ([name]) => name },
    { header: 'INSTRUCTIONS', value: ([, value]) => value.toFixed(1), align: 'right' },
    { header: 'SHARE', value: ([, value]) => share(value), align: 'right' },
  ])
  const notable = functions.filter((cost) => cost.instructions >= total / 1000)
  const rest = functions.filter((cost) => cost.instructions < total / 1000)
  const details = table(notable, [
    { header: 'INSTRUCTIONS', value: (cost) => cost.instructions.toFixed(1), align: 'right' },
    { header: 'SHARE', value: (cost) => share(cost.instructions), align: 'right' },
    { header: 'FUNCTION', value: (cost) => cost.function },
    { header: 'MODULE', value: (cost) => cost.module },
    { header: 'GROUP', value: (cost) => cost.group },
  ])
  const remainder = rest.reduce((sum, cost) => sum + cost.instructions, 0)
  const tail = `and ${remainder.toFixed(1)} in functions of less than 0.1 % each`
  return [`${load}: ${total.toFixed(0)} instructions a request`, '', summary, '', details, tail].join('\n')
}
