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
import { groupOf } from './function-groups.ts'

/** The second run serves twice as many: what both do to start and end cancels out. */
const requests = 4000

export interface FunctionCost {
  /** Whether the guest's processor executes it, which has a kernel of its own. */
  guest: boolean
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

/** By `ADDRESS` or `guest ADDRESS`, hexadecimal. */
type Counts = Map<string, number>

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
      const match = /^((?:guest )?[0-9a-f]+) (\d+)$/.exec(line)
      if (match) counts.set(match[1] as string, Number(match[2]))
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

/** A kernel's functions by address, its modules' included. */
function parseSymbols(kallsyms: string): Symbols {
  const symbols: { address: bigint; function: string; module: string }[] = []
  for (const line of kallsyms.split('\n')) {
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
  const { function: name, module } = symbols.names[low - 1] ?? {
    function: `0x${address.toString(16)}`,
    module: 'kernel',
  }
  return { function: name, module }
}

async function profileLoad(lab: Lab, counter: Counter, load: ProfiledLoad): Promise<Profile> {
  const { serve, guest, end } = await load.start(lab)
  try {
    const readAfter = async (count: number) => {
      await serve(count)
      return await counter.read()
    }
    await serve(requests)
    const before = await counter.read()
    const between = await readAfter(requests)
    const after = await readAfter(2 * requests)
    // Modules may have come with the first run.
    const symbols = parseSymbols(await lab.check(['cat', '/proc/kallsyms']))
    const guestSymbols = guest && parseSymbols(await guest.check(['cat', '/proc/kallsyms']))

    const costs = new Map<string, FunctionCost>()
    for (const [key, count] of after) {
      const first = (between.get(key) ?? 0) - (before.get(key) ?? 0)
      const second = count - (between.get(key) ?? 0)
      const cost = costOf(key, symbols, guestSymbols)
      const name = `${cost.guest} ${cost.module}:${cost.function}`
      const sum = costs.get(name) ?? cost
      sum.instructions += (second - first) / requests
      costs.set(name, sum)
    }
    const functions = [...costs.values()].sort((a, b) => b.instructions - a.instructions)
    const groups: Record<string, number> = {}
    for (const cost of functions) groups[cost.group] = (groups[cost.group] ?? 0) + cost.instructions
    const total = functions.reduce((sum, cost) => sum + cost.instructions, 0)
    return { load: load.name, total, groups, functions }
  } finally {
    await end()
  }
}

function costOf(key: string, symbols: Symbols, guestSymbols: Symbols | undefined): FunctionCost {
  const guest = key.startsWith('guest ')
  const address = BigInt(`0x${key.replace('guest ', '')}`)
  const name = nameOf(guest ? (guestSymbols ?? { addresses: [], names: [] }) : symbols, address)
  const group = groupOf(name.module === 'kernel' ? name.function : `${name.module}:${name.function}`)
  return { ...name, guest, group: guest ? `guest: ${group}` : group, instructions: 0 }
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
      profiles.push(await profileLoad(lab, counter, load))
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
