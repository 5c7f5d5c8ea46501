// SPDX-License-Identifier: GPL-2.0-or-later
// What a suite of benchmarks is: its cases, and the machine that each is measured on.
import type { Guest } from '../lab/guest.ts'
import type { Lab } from '../lab/lab.ts'
import type { MachineOptions } from '../lab/machine.ts'

/** What one run of a case found. */
export interface Figures {
  ours: number
  /** What others do of the same in the same run. */
  peers: Record<string, number>
  /** What the reader needs to judge them: the loads' own costs, parameters. Printed beside, never compared. */
  details?: Record<string, number | string>
}

export interface Reporter {
  /** Progress, a line at a time. */
  report: (line: string) => void
}

export interface Bench extends Reporter {
  /**
   * Does a part of a case in a machine of its own, and does it again in another one if that hangs (a few times).
   *
   * @param timeoutMs then the machine counts as hung
   */
  inFreshMachine<T>(what: string, timeoutMs: number, work: (lab: Lab) => Promise<T>): Promise<T>
}

export type Mode = 'instruction-counted' | 'wall-clock'

/** What a case measures and what it shall reach. */
export interface Target {
  /** Stable: others refer to it. */
  name: string
  unit: string
  better: 'higher' | 'lower'
  /**
   * Bounds: of the ratio ours/peer by the peer's name, or of our own figure by `ours`. Least if higher is better, most if
   * lower is.
   */
  goals: Record<string, number>
}

export interface Case extends Target {
  measure(lab: Lab, bench: Bench): Promise<Figures>
  /** Milliseconds; then the machine counts as hung and the case is tried again in a new one. */
  timeoutMs?: number
}

/** Cases measured on machines with the same options. */
export interface Group {
  mode: Mode
  machine: Partial<MachineOptions>
  /** A machine for each case, where one case may mark the next. */
  bootEach: boolean
  /** Makes a booted machine ready. */
  prepare(lab: Lab): Promise<void>
  cases: Case[]
}

/** A case of programs of this machine, in a folder of its own that is removed afterwards; always in real time. */
export interface LocalCase extends Target {
  measure(dir: string, bench: Reporter): Promise<Figures>
}

/** What serves requests on a machine until it is ended. */
export interface RunningLoad {
  /** Returns when so many requests have been served. */
  serve(requests: number): Promise<void>
  /** The guest in which it runs, if in one. */
  guest?: Guest
  end(): Promise<void>
}

/** A load whose instructions `--profile` counts by function. */
export interface ProfiledLoad {
  name: string
  start(lab: Lab): Promise<RunningLoad>
}

export interface Suite {
  name: string
  title: string
  groups: Group[]
  /** Measured without a machine. */
  localCases?: LocalCase[]
  /** Loads for --profile, run on the first group's machine. */
  profiled?: ProfiledLoad[]
}

export interface CaseResult extends Figures {
  suite: string
  case: string
  mode: Mode
  unit: string
  better: 'higher' | 'lower'
  ratios: Record<string, number>
  goals: Record<string, number>
  /** All goals; true if there are none. */
  met: boolean
  /** How often the machine hung and the case began anew. */
  retries: number
}

/** The names of a suite's cases, in the order in which they are measured. */
export const caseNames = ({ groups, localCases = [] }: Suite) =>
  [...groups.flatMap(({ cases }) => cases), ...localCases].map(({ name }) => name)

const rounded = (value: number) => Number(value.toPrecision(5))

/** Judges figures by a case's goals. */
export function judge(suite: string, mode: Mode, test: Target, figures: Figures, retries: number): CaseResult {
  const ratios: Record<string, number> = {}
  for (const [peer, value] of Object.entries(figures.peers)) ratios[peer] = rounded(figures.ours / value)
  const isMet = ([name, bound]: [string, number]) => {
    const value = name === 'ours' ? figures.ours : ratios[name]
    if (value === undefined) throw new Error(`${test.name}: no peer ${name}`)
    return test.better === 'higher' ? value >= bound : value <= bound
  }
  const peers = Object.fromEntries(Object.entries(figures.peers).map(([name, value]) => [name, rounded(value)]))
  const { name, unit, better, goals } = test
  return {
    ...{ suite, case: name, mode, unit, better, ours: rounded(figures.ours), peers, ratios, goals },
    ...{ met: Object.entries(goals).every(isMet), retries, details: figures.details ?? {} },
  }
}
