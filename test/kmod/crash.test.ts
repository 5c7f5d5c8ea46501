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
  await lab.check(['modprobe', '-a', 'vhost_blk', 'dm-log-writes', 'loop'])
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

/** How often a flush comes: each is a point to look at, and a long run wants a hundred of them and more. */
const flushEvery = process.env.VBLK_LONG ? '6' : '25'

const load = (file: string, args: string[]) =>
  runLoad(lab, [
    ...['--file', file, '--state', state, '--fresh', '--size', `${diskSize}`, '--requests', '800', '--depth', '16'],
    ...['--flush-every', flushEvery, '--marks', name, '--checkpoints', checkpoints, ...args],
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
      expect(result).toMatchObject({ completed: 800, errors: 0 })
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

describe('a file on ext4', () => {
  const image = '/run/logged/image'
  const replayedImage = '/run/replayed.img'

  /** Runs the load on a file and returns the numbers of the log's entries and marks. */
  async function loadFile(args: string[]): Promise<{ entry: number; flags: number; mark: number }[]> {
    const disk = await logged()
    await script(
      lab,
      `mkfs.ext4 -q -F -J size=4 "$1"
       mkdir -p /run/logged
       mount "$1" /run/logged
       truncate -s "$2" /run/logged/image
       sync -f /run/logged`,
      disk,
      diskSize,
    )
    expect(await load(image, args)).toMatchObject({ completed: 800, errors: 0 })
    await lab.check(['umount', '/run/logged'])
    await removeDm(lab, name)
    const lines = (await lab.check([ring, 'replay', '--log', log, '--list'])).trim().split('\n')
    return lines.map((line) => {
      const [entry = '', flags = '', mark = '-'] = line.split(' ')
      return { entry: Number(entry), flags: Number(flags), mark: mark === '-' ? Number.NaN : Number(mark) }
    })
  }

  /** Makes the disk as it was after that entry, mounts it, and compares the file with what the marks around it say. */
  async function checkAfter(from: number, to: number, low: number, high: number) {
    return await lab.exec([
      'sh',
      '-euc',
      `"$1" replay --log "$2" --apply "$3" --from "$4" --to "$5" >/dev/null
       cp --sparse=always "$3" "$3.crashed"
       mkdir -p /run/crashed
       mount -o loop "$3.crashed" /run/crashed
       r=0
       "$1" check --file /run/crashed/image --checkpoints "$6" --low "$7" --high "$8" || r=$?
       umount /run/crashed
       exit $r`,
      'sh',
      ...[ring, log, replayedImage, from, to, checkpoints, low, high].map(String),
    ])
  }

  /** At a sample of the points where a flush or a durable write ended, and at the marks among them. */
  async function checkPoints(entries: { entry: number; flags: number; mark: number }[], count: number) {
    await lab.check(['rm', '-f', replayedImage])
    await lab.check(['truncate', '-s', '32M', replayedImage])
    const marks = entries.filter(({ mark }) => !Number.isNaN(mark))
    const first = marks[0]?.entry ?? 0
    const points = entries.filter(({ entry, flags }) => entry >= first && (flags & 3 || flags & 8))
    const step = Math.max(1, Math.floor(points.length / count))
    const lost: string[] = []
    let applied = 0
    let checked = 0
    for (let i = 0; i < points.length; i += step, checked++) {
      const at = points[i]?.entry ?? 0
      const low = marks.findLast(({ entry }) => entry <= at)?.mark ?? 0
      const high = marks.find(({ entry }) => entry >= at)?.mark ?? marks.length - 1
      const { exitCode, stdout, stderr } = await checkAfter(applied, at + 1, low, high)
      if (exitCode !== 0) lost.push(`after entry ${at}: ${stdout}${stderr}`)
      applied = at + 1
    }
    return { checked, lost }
  }

  const samples = process.env.VBLK_LONG ? 100 : 10
  const ways: [string, string[]][] = [
    ['direct, write cache on', ['--direct']],
    ['buffered, write cache off', ['--writethrough']],
  ]

  test.each(ways)(
    '%s: mounted after a crash, it has all that was durable',
    async (_name, args) => {
      const { checked, lost } = await checkPoints(await loadFile(args), samples)
      expect(lost).toEqual([])
      expect(checked).toBeGreaterThanOrEqual(samples)
      expect(await lab.kernelWarnings()).toEqual([])
    },
    process.env.VBLK_LONG ? 600_000 : 90_000,
  )

  test('a driver that sends no flush is found out', async () => {
    const { lost } = await checkPoints(await loadFile(['--skip-flush']), 5)
    expect(lost.length).toBeGreaterThan(0)
  }, 90_000)
})
