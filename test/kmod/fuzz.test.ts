// SPDX-License-Identifier: GPL-2.0-or-later
// The structure-aware fuzzer (test/kmod/fuzz) in the lab. VBLK_FUZZ_SEED repeats a run's choices.
import { afterEach, describe, expect, test } from '@jest/globals'
import { Lab } from '../lab/lab.ts'
import { loadNullBlk, makeNullBlk, makeScsiDebug } from './devices.ts'

const fuzz = '/opt/vblk/lab/bin/fuzz'

let lab: Lab | undefined

afterEach(async () => {
  await lab?.stop()
  lab = undefined
})

/** Makes what a fuzzer of that name works on: files on ext4, block devices of 512 and 4096 bytes a block. */
async function prepare(lab: Lab, name: string): Promise<string[]> {
  const imageDir = `/run/${name}`
  const memory = { size: 16, memory_backed: 1, discard: 1 }
  const tame = await makeNullBlk(lab, `${name}-tame`, memory)
  const hostile = await makeNullBlk(lab, `${name}-hostile`, memory)
  const hostileLarge = await makeNullBlk(lab, `${name}-hostile-large`, { ...memory, blocksize: 4096 })
  const disk = await makeNullBlk(lab, `${name}-files`, { ...memory, size: 64 })
  await lab.check(['mkfs.ext4', '-q', disk])
  await lab.check(['mkdir', imageDir])
  await lab.check(['mount', disk, imageDir])
  return [
    fuzz,
    '--dir',
    imageDir,
    '--block',
    tame,
    '--hostile-block',
    hostile,
    '--hostile-block',
    `${hostileLarge}:4096`,
  ]
}

/**
 * Runs that many fuzzers at a time, each on storage of its own; the kernel must not complain, and after it the module must
 * serve and unload as ever.
 */
async function run(lab: Lab, fuzzers: number, seed: number, limits: string[], timeoutMs: number): Promise<void> {
  await lab.check(['modprobe', 'vhost_blk'])
  await loadNullBlk(lab)
  const names = Array.from({ length: fuzzers }, (_, i) => `fuzz${i}`)
  const commands = []
  for (const name of names) commands.push(await prepare(lab, name))
  // Not null_blk: with large blocks it reads zeroes into buffers that are cut at pages. There is one.
  const tameLarge = await makeScsiDebug(lab, { sector_size: 4096, dev_size_mb: 16, delay: 0, lbpws: 1 })
  commands[0]?.push('--block', `${tameLarge}:4096`)
  await lab.kernelWarnings()
  const runs = commands.map((command, i) =>
    lab
      .exec([...command, '--seed', `${seed + i}`, ...limits], { timeoutMs })
      // What the kernel has said tells more than that the time is over.
      .catch((error: Error) => ({ exitCode: undefined, stdout: '', stderr: `${error.message}\n` })),
  )
  const ends = await Promise.all(runs)
  const warnings = await lab.kernelWarnings()
  const printed = ends.map(({ exitCode, stdout, stderr }) => `${stdout}${stderr}exit ${exitCode}\n`).join('')
  if (warnings.length || ends.some(({ exitCode, stdout }) => exitCode !== 0 || !stdout.startsWith('seed')))
    throw new Error(`${printed}${warnings.length} kernel warnings\n${(await lab.kernelLog()).slice(-8000)}`)
  process.stderr.write(printed)
  for (const name of names) await lab.check(['umount', `/run/${name}`])
  await lab.check(['rmmod', 'vhost_blk'])
  expect(await lab.kernelWarnings()).toEqual([])
}

/** The short run makes the same choices each time; the long one new ones. */
const seed = Number(process.env.VBLK_FUZZ_SEED ?? (process.env.VBLK_LONG ? Math.floor(Date.now() / 1000) : 1))
const long = process.env.VBLK_LONG ? test : test.skip

describe('hostile guests and VMMs', () => {
  test('do no harm in 40 s, with checked slabs', async () => {
    lab = await Lab.start({ smp: 2, append: 'slub_debug=FZPU' })
    await run(lab, 1, seed, ['--seconds', '40'], 150_000)
  }, 400_000)

  long(
    'nor in a million requests, on four processors, watched by KASAN and lockdep',
    async () => {
      lab = await Lab.start({ smp: 4, kernel: 'kasan' })
      // Each waits half of its time; together they keep the processors busy.
      await run(lab, 4, seed, ['--count', '250000'], 14_400_000)
    },
    // The kernel may have to be built first.
    18_000_000,
  )
})
