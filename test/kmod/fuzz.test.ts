// SPDX-License-Identifier: GPL-2.0-or-later
// The structure-aware fuzzer (test/kmod/fuzz) in the lab. VBLK_FUZZ_SEED repeats a run's choices.
import { afterEach, describe, expect, test } from '@jest/globals'
import { Lab } from '../lab/lab.ts'
import { loadNullBlk, makeNullBlk, makeScsiDebug } from './devices.ts'

const fuzz = '/opt/vblk/lab/bin/fuzz'
const imageDir = '/run/fuzz'

let lab: Lab | undefined

afterEach(async () => {
  await lab?.stop()
  lab = undefined
})

/** Makes what the fuzzer works on: files on ext4, block devices of 512 and 4096 bytes a block. */
async function prepare(lab: Lab): Promise<string[]> {
  await lab.check(['modprobe', 'vhost_blk'])
  await loadNullBlk(lab)
  const memory = { size: 16, memory_backed: 1, discard: 1 }
  const tame = await makeNullBlk(lab, 'tame', memory)
  const hostile = await makeNullBlk(lab, 'hostile', memory)
  const hostileLarge = await makeNullBlk(lab, 'hostile-large', { ...memory, blocksize: 4096 })
  // Not null_blk: with large blocks it reads zeroes into buffers that are cut at pages.
  const tameLarge = await makeScsiDebug(lab, { sector_size: 4096, dev_size_mb: 16, delay: 0, lbpws: 1 })
  const disk = await makeNullBlk(lab, 'files', { ...memory, size: 64 })
  await lab.check(['mkfs.ext4', '-q', disk])
  await lab.check(['mkdir', imageDir])
  await lab.check(['mount', disk, imageDir])
  const blocks = ['--block', tame, '--block', `${tameLarge}:4096`]
  return [fuzz, '--dir', imageDir, ...blocks, '--hostile-block', hostile, '--hostile-block', `${hostileLarge}:4096`]
}

/** Runs the fuzzer; the kernel must not complain, and after it the module must serve and unload as ever. */
async function run(lab: Lab, seed: number, limits: string[], timeoutMs: number): Promise<void> {
  const command = await prepare(lab)
  await lab.kernelWarnings()
  const { exitCode, stdout, stderr } = await lab
    .exec([...command, '--seed', `${seed}`, ...limits], { timeoutMs })
    // What the kernel has said tells more than that the time is over.
    .catch((error: Error) => ({ exitCode: undefined, stdout: '', stderr: `${error.message}\n` }))
  const warnings = await lab.kernelWarnings()
  const evidence = `${stdout}${stderr}${warnings.length ? (await lab.kernelLog()).slice(-8000) : ''}`
  if (exitCode !== 0 || warnings.length || !stdout.startsWith('seed'))
    throw new Error(`exit ${exitCode}, ${warnings.length} kernel warnings\n${evidence}`)
  process.stderr.write(stdout)
  await lab.check(['umount', imageDir])
  await lab.check(['rmmod', 'vhost_blk'])
  expect(await lab.kernelWarnings()).toEqual([])
}

/** The short run makes the same choices each time; the long one new ones. */
const seed = Number(process.env.VBLK_FUZZ_SEED ?? (process.env.VBLK_LONG ? Math.floor(Date.now() / 1000) : 1))
const long = process.env.VBLK_LONG ? test : test.skip

describe('hostile guests and VMMs', () => {
  test('do no harm in 40 s, with checked slabs', async () => {
    lab = await Lab.start({ smp: 2, append: 'slub_debug=FZPU' })
    await run(lab, seed, ['--seconds', '40'], 150_000)
  }, 400_000)

  long(
    'nor in a million requests, on four processors, watched by KASAN and lockdep',
    async () => {
      lab = await Lab.start({ smp: 4, kernel: 'kasan' })
      await run(lab, seed, ['--count', '1000000'], 14_400_000)
    },
    // The kernel may have to be built first.
    18_000_000,
  )
})
