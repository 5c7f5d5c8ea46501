// SPDX-License-Identifier: GPL-2.0-or-later
// Runs a suite's cases: machines, watchdog, retries.
import { mkdtemp, rm } from 'node:fs/promises'
import { release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { Lab } from '../lab/lab.ts'
import { run, runInRoot } from '../lab/setup/run.ts'
import { TimeoutError } from '../lab/timeout-error.ts'
import {
  type Case,
  type CaseResult,
  type Figures,
  type Group,
  judge,
  type LocalCase,
  type Mode,
  type Reporter,
  type Suite,
} from './suite.ts'

/** How many machines a case gets at most, should they hang: a benchmark of an hour is not to be lost to one of them. */
const attempts = 3
const defaultTimeoutMs = 900_000

export interface Environment {
  /** Of L1, which is also the QEMU that emulates it, and that of local cases. */
  qemu: string
  kernel: string
  mode: Mode
  commit: string
}

async function commit(): Promise<string> {
  const name = (await run('git', ['rev-parse', '--short=12', 'HEAD'])).trim()
  return (await run('git', ['status', '--porcelain', '--untracked-files=no'])).trim() ? `${name}-modified` : name
}

const versionNumber = (text: string) => /version ([\d.]+)/.exec(text)?.[1] ?? text.trim()

/** Rejects when the time is over; the work itself can only be ended with its machine. */
async function within<T>(milliseconds: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new TimeoutError(`no end within ${milliseconds / 1000} s`)), milliseconds)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** The machines of one group, booted as its cases need them. */
class Machines {
  readonly #group: Group
  readonly #bench: Reporter
  #lab: Lab | undefined
  environment: Omit<Environment, 'mode' | 'commit'> | undefined

  constructor(group: Group, bench: Reporter) {
    this.#group = group
    this.#bench = bench
  }

  async get(): Promise<Lab> {
    if (this.#lab) return this.#lab
    const lab = await Lab.start({ ...this.#group.machine, report: this.#bench.report })
    this.#lab = lab
    await this.#group.prepare(lab)
    this.environment = {
      qemu: versionNumber(await lab.check(['qemu-system-x86_64', '-version'])),
      kernel: (await lab.check(['uname', '-r'])).trim(),
    }
    return lab
  }

  async drop(): Promise<void> {
    await this.#lab?.stop()
    this.#lab = undefined
  }

  /** After a case: a kernel that complained has not measured what it should. */
  async finish(test: Case): Promise<void> {
    const warnings = (await this.#lab?.kernelWarnings()) ?? []
    if (warnings.length) {
      await this.drop()
      throw new Error(`${test.name}: the kernel complained:\n${warnings.join('\n')}`)
    }
    if (this.#group.bootEach) await this.drop()
  }
}

/** Does work in a machine; in another one, up to so many times, if it hangs: as a whole or in a command. */
async function inMachine<T>(
  machines: Machines,
  what: string,
  timeoutMs: number,
  again: () => void,
  work: () => Promise<T>,
) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await within(timeoutMs, work())
    } catch (error) {
      await machines.drop()
      if (!(error instanceof TimeoutError) || attempt === attempts)
        throw new Error(`${what}: ${(error as Error).message}`)
      again()
    }
  }
}

async function measure(
  machines: Machines,
  test: Case,
  bench: Reporter,
): Promise<{ figures: Figures; retries: number }> {
  let retries = 0
  const again = (what: string) => () => {
    retries++
    bench.report(`bench: ${what}: the machine hangs; once more in a new one`)
  }
  const inFreshMachine = <T>(what: string, timeoutMs: number, work: (lab: Lab) => Promise<T>) =>
    inMachine(machines, what, timeoutMs, again(`${test.name}, ${what}`), async () => {
      await machines.drop()
      return await work(await machines.get())
    })
  const timeoutMs = test.timeoutMs ?? defaultTimeoutMs
  const figures = await inMachine(machines, test.name, timeoutMs, again(test.name), async () =>
    test.measure(await machines.get(), { ...bench, inFreshMachine }),
  )
  await machines.finish(test)
  return { figures, retries }
}

/** Measures a case on this machine. */
async function measureLocally(test: LocalCase, bench: Reporter): Promise<Figures> {
  const dir = await mkdtemp(join(tmpdir(), 'vblk-bench-'))
  try {
    return await test.measure(dir, bench)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

async function localEnvironment(): Promise<Environment> {
  const version = await runInRoot(['qemu-system-x86_64', '-version'])
  return { qemu: versionNumber(version), kernel: release(), mode: 'wall-clock', commit: await commit() }
}

export interface Results {
  env: Environment
  cases: CaseResult[]
  /** Of cases that could not be measured: what stood in the way. */
  failures: string[]
}

/**
 * Runs the cases of a suite that are wanted, all of them if none is named. A case that can't be measured doesn't end the others.
 *
 * @throws Error if none could be measured
 */
export async function runSuite(suite: Suite, wanted: string[], bench: Reporter): Promise<Results> {
  const cases: CaseResult[] = []
  const failures: string[] = []
  let env: Environment | undefined
  const attempt = async (name: string, work: () => Promise<CaseResult>) => {
    if (wanted.length && !wanted.includes(name)) return
    bench.report(`bench: ${suite.name} ${name}…`)
    try {
      cases.push(await work())
    } catch (error) {
      failures.push((error as Error).message)
      bench.report(`bench: ${failures.at(-1)}`)
    }
  }
  for (const group of suite.groups) {
    const machines = new Machines(group, bench)
    try {
      for (const test of group.cases)
        await attempt(test.name, async () => {
          const { figures, retries } = await measure(machines, test, bench)
          if (machines.environment) env ??= { ...machines.environment, mode: group.mode, commit: await commit() }
          return judge(suite.name, group.mode, test, figures, retries)
        })
    } finally {
      await machines.drop()
    }
  }
  for (const test of suite.localCases ?? [])
    await attempt(test.name, async () => {
      const figures = await measureLocally(test, bench)
      env ??= await localEnvironment()
      return judge(suite.name, 'wall-clock', test, figures, 0)
    })
  if (!env) throw new Error(failures.join('\n') || `suite ${suite.name} has no cases`)
  return { env, cases, failures }
}
