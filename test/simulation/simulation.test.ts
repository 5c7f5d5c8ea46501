// SPDX-License-Identifier: GPL-2.0-or-later
// The coordinator against simulated QEMUs (qemu.ts), a journal in memory, and a fault at every moment. A failure prints the history; its seed
// and sample repeat it: node --import tsx test/simulation/main.ts --seed N --sample N

import { readdirSync } from 'node:fs'
import { cp, mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from '@jest/globals'
import { execa } from 'execa'
import { cache, top } from '../lab/setup/paths.ts'

const long = Boolean(process.env.VBLK_LONG)
const planted = join(top, 'test/simulation/planted')

const simulate = (dir: string, ...options: string[]) =>
  execa(process.execPath, ['--import', 'tsx', join(dir, 'test/simulation/main.ts'), ...options], {
    cwd: top,
    reject: false,
    all: true,
  })

test(
  'no fault and no pair of faults leaves two owners, two running VMs, a lost one, or anything behind',
  async () => {
    const seed = long ? Math.floor(Date.now() / 1000) : 1
    const { exitCode, all } = await simulate(top, '--seed', `${seed}`, '--sample', long ? 'all' : '150')
    const histories = Number(/(\d+) histories\n?$/.exec(all)?.[1] ?? 0)
    expect({ seed, exitCode, all }).toEqual({ seed, exitCode: 0, all: expect.any(String) })
    // As many as there are single faults at least, and the circumstances by themselves.
    expect(histories).toBeGreaterThan(1000)
  },
  long ? 7_200_000 : 300_000,
)

describe('a fault in the coordinator itself is found', () => {
  const work = join(cache, 'simulation')
  const faults = readdirSync(planted).map((name) => name.replace(/\.patch$/, ''))

  test.each(['none', ...faults])(
    '%s',
    async (name) => {
      const dir = join(work, name)
      await rm(dir, { recursive: true, force: true })
      await mkdir(dir, { recursive: true })
      try {
        for (const part of ['src', 'test/simulation']) await cp(join(top, part), join(dir, part), { recursive: true })
        // The control looks at one moment, as the others do.
        let moments = 'destination cont'
        if (name !== 'none') {
          const patch = await readFile(join(planted, `${name}.patch`), 'utf8')
          moments = /^Moments: (.+)$/m.exec(patch)?.[1] ?? ''
          await execa('patch', ['--strip=1', '--quiet', '--fuzz=0', '--directory', dir], { input: patch })
        }
        const { exitCode, all } = await simulate(dir, '--moments', `^(${moments})$`, '--sample', '400')
        expect({ exitCode, all }).toEqual({
          exitCode: name === 'none' ? 0 : 1,
          all: expect.stringMatching(/histories$/),
        })
      } finally {
        await rm(dir, { recursive: true, force: true })
      }
    },
    180_000,
  )
})
