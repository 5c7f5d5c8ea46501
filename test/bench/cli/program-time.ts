// SPDX-License-Identifier: GPL-2.0-or-later
// How long programs take, beside each other: their runs are interleaved, so what else the machine does meets all of them.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { median } from '../median.ts'

export interface Time {
  /** From the start to the end, milliseconds. */
  wall: number
  /** Of all processors, in the program and in the kernel for it, milliseconds. */
  cpu: number
}

/** Node tells neither a child's CPU time nor when exactly it ended; wait4 tells the one, an idle waiter the other. */
const waiter = `
import json, os, sys, time
null = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
start = time.monotonic()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=null)
_, status, usage = os.wait4(pid, 0)
wall = time.monotonic() - start
print(json.dumps({"status": os.waitstatus_to_exitcode(status), "wall": wall, "cpu": usage.ru_utime + usage.ru_stime}))
`

/**
 * Runs a program to its end, its output thrown away.
 *
 * @throws Error with what it wrote to stderr if it fails
 */
export async function timeProgram(command: readonly string[]): Promise<Time> {
  const env = { ...process.env, NODE_OPTIONS: '' }
  const { stdout, stderr } = await promisify(execFile)('python3', ['-c', waiter, ...command], { env })
  const { status, wall, cpu } = JSON.parse(stdout) as { status: number; wall: number; cpu: number }
  if (status !== 0) throw new Error(`${command.join(' ')}: exit ${status}\n${stderr}`)
  return { wall: wall * 1000, cpu: cpu * 1000 }
}

export type Timed = () => Promise<Time>

/**
 * Does all of some works in each of so many rounds, after one round that isn't counted: caches are warm, as they are for who
 * uses a program often. The order turns round each time, so none always runs after the same other.
 *
 * @returns each one's times, round by round
 */
export async function interleave<Name extends string>(
  works: Record<Name, Timed>,
  rounds: number,
): Promise<Record<Name, Time[]>> {
  const names = Object.keys(works) as Name[]
  const times = Object.fromEntries(names.map((name) => [name, [] as Time[]])) as Record<Name, Time[]>
  for (let round = 0; round <= rounds; round++) {
    for (const name of round % 2 ? names.toReversed() : names) {
      const time = await works[name]()
      if (round > 0) times[name].push(time)
    }
  }
  return times
}

/** Median wall-clock time, milliseconds. */
export const wall = (times: readonly Time[]) => median(times.map((time) => time.wall))

/** Median CPU time, milliseconds. */
export const cpu = (times: readonly Time[]) => median(times.map((time) => time.cpu))
