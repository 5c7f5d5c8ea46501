// SPDX-License-Identifier: GPL-2.0-or-later
// One source for every host's kernel: the same cases on other releases' kernels, and with more than one CPU.
import { describe, test } from '@jest/globals'
import { ensureKernel } from '../lab/machine.ts'
import { hostKernels, KernelUnavailable } from '../lab/setup/kernels.ts'
import { allCases, conformance } from './conformance.ts'

/** Why a kernel can't be had today; undefined once it is there, with the module built for it. */
async function whyMissing(name: string): Promise<string | undefined> {
  try {
    await ensureKernel(hostKernels[name] as (typeof hostKernels)[string], (line) => process.stderr.write(`${line}\n`))
    return undefined
  } catch (error) {
    if (error instanceof KernelUnavailable) return error.message
    throw error
  }
}

for (const name of ['6.1', '7']) {
  const missing = await whyMissing(name)
  describe(`kernel ${name}`, () => {
    if (missing) test.skip(missing, () => {})
    else conformance({ kernel: name })
  })
}

/** What several processors could break. */
const concurrent = [
  ...['many-in-flight', 'same-head', 'busy-polling', 'log-toggle'],
  ...['stop-drains', 'replace', 'change-under-load', 'multi-queue', 'close-in-flight', 'killed-owner'],
  ...['pause-and-stop', 'hung-storage', 'worker-per-queue', 'another-worker', 'hold-retry', 'hold-and-die'],
]

/** Cases that say nothing where several processors run them, with the reason. */
const uniprocessor: Record<string, string> = {
  'fair-share': 'tells who was first by what a write finds in memory, which another processor may be writing',
}

const onManyProcessors = allCases.filter((name) => !(name in uniprocessor))

describe('four CPUs', () => {
  conformance({ smp: 4 }, process.env.VBLK_LONG ? onManyProcessors : concurrent)
  for (const [name, reason] of Object.entries(uniprocessor)) test.skip(`${name}: ${reason}`, () => {})
})

if (process.env.VBLK_LONG) {
  // Memory, locks and undefined behaviour, watched by the kernel itself.
  describe('KASAN, UBSAN and lockdep', () => {
    conformance({ kernel: 'kasan' }, allCases, hostKernels.kasan?.slowness)
  })
  describe('KCSAN', () => {
    conformance({ kernel: 'kcsan', smp: 4 }, onManyProcessors, hostKernels.kcsan?.slowness)
  })
}
