// SPDX-License-Identifier: GPL-2.0-or-later
// The loads that the kmod suite compares: ringload on /dev/vhost-blk, and fio on the same block device.
import type { Lab } from '../../lab/lab.ts'

export type Direction = 'read' | 'write'

export interface Shape {
  direction: Direction
  /** Requests in flight, of each job. */
  depth: number
  /** Threads; one unless given. */
  jobs?: number
}

export const ringload = '/opt/vblk/lab/bin/ringload'
/** Of the device, MiB: told to fio too, whose null engine asks no device. */
export const deviceSize = 16384
const timeoutMs = 600_000

export const ringloadCommand = (device: string, { direction, depth }: Shape, count: number, ...more: string[]) => [
  ...[ringload, 'run', '--file', device, '--type', direction],
  ...['--depth', `${depth}`, '--count', `${count}`, ...more],
]

interface RingloadReport {
  requests: number
  ns: number
  batches: number
  kicks: number
}

async function runRingload(lab: Lab, argv: string[]): Promise<RingloadReport> {
  return JSON.parse(await lab.check(argv, { timeoutMs }))
}

/** Nanoseconds a request of vhost-blk. */
export async function measureVhostBlk(lab: Lab, device: string, shape: Shape, count: number, ...more: string[]) {
  const { ns, requests } = await runRingload(lab, ringloadCommand(device, shape, count, ...more))
  return ns / requests
}

/** Nanoseconds a request that ringload itself takes, its system calls included. */
export async function measureRingloadItself(lab: Lab, { depth }: Shape, count: number): Promise<number> {
  const { ns, requests } = await runRingload(lab, [ringload, 'own', '--depth', `${depth}`, '--count', `${count}`])
  return ns / requests
}

export type FioEngine = 'io_uring' | 'io_uring-fixed' | 'libaio' | 'null' | 'null-batched'

const batch = 32

/** How fio is told to go about it. */
function engineOptions(engine: FioEngine, depth: number): string[] {
  const size = Math.min(batch, depth)
  const batched = [`--iodepth_batch_submit=${size}`, `--iodepth_batch_complete_max=${size}`]
  switch (engine) {
    case 'io_uring-fixed':
      return ['--ioengine=io_uring', '--fixedbufs', '--registerfiles', ...batched]
    case 'null-batched':
      return ['--ioengine=null', ...batched]
    default:
      return [`--ioengine=${engine}`]
  }
}

/**
 * So many requests, no more and no less, on a device that is larger than they reach; threads; no time stamps a request,
 * no map of what was visited, no filling of buffers.
 */
export const fioCommand = (device: string, engine: FioEngine, { direction, depth, jobs = 1 }: Shape, count: number) => [
  ...['fio', '--name=bench', `--filename=${device}`, '--direct=1', `--rw=rand${direction}`, '--bs=4k'],
  ...[
    `--size=${deviceSize}m`,
    `--iodepth=${depth}`,
    `--number_ios=${count / jobs}`,
    `--numjobs=${jobs}`,
    '--group_reporting',
    '--norandommap',
    '--gtod_reduce=1',
    '--zero_buffers=1',
  ],
  ...['--scramble_buffers=0', '--thread', '--output-format=json', ...engineOptions(engine, depth)],
]

/** Nanoseconds a request of fio. It tells its time in milliseconds: the count must make that exact enough. */
export async function measureFio(lab: Lab, device: string, engine: FioEngine, shape: Shape, count: number) {
  const argv = fioCommand(device, engine, shape, count)
  const { exitCode, stdout: output, stderr } = await lab.exec(argv, { timeoutMs })
  if (exitCode !== 0) throw new Error(`in L1: ${argv.join(' ')}: exit ${exitCode}\n${stderr}`)
  // Notes may precede the document.
  const report = JSON.parse(output.slice(output.indexOf('{')))
  const { total_ios: requests, runtime } = report.jobs[0][shape.direction]
  if (requests !== count || report.jobs[0].error) throw new Error(`fio served ${requests} of ${count}:\n${output}`)
  return (runtime * 1e6) / requests
}
