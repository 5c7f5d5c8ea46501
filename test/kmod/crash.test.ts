// SPDX-License-Identifier: GPL-2.0-or-later
// Power may fail between any two writes: dm-log-writes keeps them all, and the disk is made anew as each left it.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { Lab } from '../lab/lab.ts'
import { loadNullBlk, makeNullBlk } from './devices.ts'
import { ring, runLoad } from './load.ts'
import { makeDm, removeDm, script, sectorsOf } from './storage.ts'

const state = '/run/state'
const checkpoints = '/run/checkpoints'
const diskSize = 2 * 2 ** 20
const name = 'logged'

let lab: Lab
let device: string
let log: string

beforeAll(async () => {
  lab = await Lab.start()
  await lab.check(['modprobe', '-a', 'vhost_blk', 'dm-log-writes'])
  await loadNullBlk(lab)
  device = await makeNullBlk(lab, 'data', { size: 32, memory_backed: 1 })
  log = await makeNullBlk(lab, 'log', { size: 512, memory_backed: 1 })
  await lab.kernelWarnings()
}, 300_000)

afterAll(async () => {
  await lab?.stop()
})

/** Begins a new log on an empty disk. */
async function logged(): Promise<string> {
  await script(lab, 'dd if=/dev/zero of="$1" bs=1M count=32 oflag=direct status=none', device)
  return await makeDm(lab, name, `0 ${await sectorsOf(lab, device)} log-writes ${device} ${log}\n`)
}

const load = (file: string, args: string[]) =>
  runLoad(lab, [
    ...['--file', file, '--state', state, '--fresh', '--size', `${diskSize}`, '--requests', '500', '--depth', '16'],
    ...['--flush-every', '25', '--marks', name, '--checkpoints', checkpoints, ...args],
  ])

interface Replayed {
  entries: number
  marks: number
  flushes: number
  fuas: number
  durable: number
}

const checkRaw = async () => await lab.exec([ring, 'replay', '--log', log, '--checkpoints', checkpoints])

describe('a block device', () => {
  const ways: [string, string[]][] = [
    ['direct, write cache on', ['--direct']],
    ['direct, write cache off', ['--direct', '--writethrough']],
    ['buffered, write cache on', []],
    ['buffered, write cache off', ['--writethrough']],
  ]

  test.each(ways)(
    '%s: after each write in the log, all that was durable is there',
    async (_name, args) => {
      const result = await load(await logged(), args)
      await removeDm(lab, name)
      expect(result).toMatchObject({ completed: 500, errors: 0 })
      const { stdout, stderr } = await checkRaw()
      expect(`${stdout}${stderr}`).toMatch(/^\{"entries":/)
      const replayed = JSON.parse(stdout) as Replayed
      // Each mark follows a flush of the guest's, or eight durable writes.
      const marks = args.includes('--writethrough') ? Math.floor(result.writes / 8) : result.flushes
      expect(replayed.marks).toBeGreaterThan(marks)
      expect(replayed.flushes + replayed.fuas).toBeGreaterThanOrEqual(result.flushes)
      expect(replayed.durable).toBeGreaterThan(1000)
      expect(await lab.kernelWarnings()).toEqual([])
    },
    60_000,
  )

  test('a driver that sends no flush is found out', async () => {
    await load(await logged(), ['--direct', '--skip-flush'])
    await removeDm(lab, name)
    const { exitCode, stdout } = await checkRaw()
    expect(stdout).toMatch(/^after entry \d+ of the log: sector \d+ /)
    expect(exitCode).toBe(1)
  }, 60_000)
})
