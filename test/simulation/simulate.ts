// SPDX-License-Identifier: GPL-2.0-or-later

import { type History, history } from './history.ts'
import { historyOfTwo } from './two-hosts.ts'
import { type Circumstances, type Fault, faultKinds, hostFaultKinds } from './world.ts'

const plain: Circumstances = {}
const postcopy: Circumstances = { postcopy: true }
const unusual: Circumstances[] = [
  { paused: true },
  { writeCacheLost: true },
  { backendStuck: true },
  { inParts: true },
  { endUnnoticed: true },
  { copyStorage: true },
  { copyStorage: true, copyFails: true },
  { postcopy: true, writeCacheLost: true },
  { postcopy: true, backendStuck: true },
  { postcopy: true, endUnnoticed: true },
  { postcopy: true, inParts: true },
]
const betweenHosts: Circumstances[] = [
  { recoverAt: 'source' },
  { recoverAt: 'destination' },
  { recoverAt: 'source', thereFirst: true },
  { recoverAt: 'destination', thereFirst: true },
]

export interface Simulated {
  histories: number
  /** Those in which something happened that must never happen. */
  violated: (History & { circumstances: Circumstances })[]
}

export interface SimulateOptions {
  /** Single faults under unusual circumstances, and pairs of faults: so many of each, chosen by the seed, or all. */
  sample: number | 'all'
  seed: number
  /** Stop at so many violated histories. */
  most: number
  /** Only faults at moments of these names. */
  moments?: RegExp
}

/**
 * Faults at the moments of a migration, against the unmodified coordinator: each by itself, in postcopy those in which it
 * differs, then pairs of them.
 */
export async function simulate(options: SimulateOptions): Promise<Simulated> {
  const { sample, seed, most, moments: wanted = /./ } = options
  const result: Simulated = { histories: 0, violated: [] }
  const run = async (faults: Fault[], circumstances: Circumstances): Promise<History> => {
    const play = circumstances.recoverAt === undefined ? history : historyOfTwo
    const done = await play(faults, circumstances)
    result.histories++
    if (done.violations.length > 0) result.violated.push({ ...done, circumstances })
    return done
  }
  const random = generator(seed)
  const choose = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T
  const runAll = async (cases: [Fault[], Circumstances][]) => {
    const chosen =
      sample === 'all' ? cases : Array.from({ length: Math.min(sample, cases.length) }, () => choose(cases))
    for (const [faults, circumstances] of chosen) if (result.violated.length < most) await run(faults, circumstances)
  }

  const singles = new Map<Circumstances, Fault[]>()
  for (const circumstances of [plain, postcopy, ...unusual, ...betweenHosts]) {
    const { moments } = await run([], circumstances)
    // What comes before and after is the same.
    const isPart = circumstances === postcopy
    const [first, end] = isPart ? [moments.indexOf('source migrate'), moments.indexOf('source quit')] : [0, Infinity]
    const numbers = moments.flatMap((label, at) => (at >= first && at < end && wanted.test(label) ? [at] : []))
    singles.set(
      circumstances,
      numbers.flatMap((at) => kindsOf(circumstances).map((kind) => ({ kind, at }))),
    )
  }
  const ofPlain = singles.get(plain) ?? []
  const ofPostcopy = singles.get(postcopy) ?? []
  for (const fault of ofPlain) if (result.violated.length < most) await run([fault], plain)
  for (const fault of ofPostcopy) if (result.violated.length < most) await run([fault], postcopy)
  await runAll(
    unusual.flatMap((each) => (singles.get(each) ?? []).map((fault) => [[fault], each] as [Fault[], Circumstances])),
  )
  await runAll(
    betweenHosts.flatMap((each) => (singles.get(each) ?? []).map((fault): [Fault[], Circumstances] => [[fault], each])),
  )
  // The second comes in the rest of the migration, or in recover.
  const pairsOf = (firsts: readonly Fault[], circumstances: readonly Circumstances[]) =>
    firsts.flatMap((first) =>
      Array.from({ length: 40 }, (_, i): [Fault[], Circumstances] => {
        const chosen = choose(circumstances)
        const second = { kind: choose(kindsOf(chosen)), at: first.at + 1 + i }
        return [[first, second], chosen]
      }),
    )
  await runAll(pairsOf(ofPlain, sample === 'all' ? [plain] : [plain, ...unusual]))
  await runAll(pairsOf(ofPostcopy, [postcopy]))
  await runAll(betweenHosts.flatMap((each) => pairsOf(singles.get(each) ?? [], [each])))
  return result
}

const kindsOf = ({ recoverAt }: Circumstances): readonly Fault['kind'][] =>
  recoverAt === undefined ? faultKinds : hostFaultKinds

/** mulberry32: the same numbers for the same seed. */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
