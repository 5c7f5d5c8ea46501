// SPDX-License-Identifier: GPL-2.0-or-later
import { spawnSync } from 'node:child_process'
import { describe, expect, test } from '@jest/globals'
import { type Case, judge } from '../../bench/suite.ts'
import { top } from '../../lab/setup/paths.ts'

const testCase = (better: 'higher' | 'lower', goals: Record<string, number>): Case => ({
  ...{ name: 'a-case', unit: 'kIOPS', better, goals },
  measure: async () => ({ ours: 0, peers: {} }),
})

const met = (better: 'higher' | 'lower', goals: Record<string, number>, ours: number, peers: Record<string, number>) =>
  judge('kmod', 'wall-clock', testCase(better, goals), { ours, peers }, 0).met

describe('a benchmark case', () => {
  test('meets a goal at the bound, and misses it on the other side', () => {
    expect(met('higher', { fio: 1.25 }, 125, { fio: 100 })).toBe(true)
    expect(met('higher', { fio: 1.25 }, 124, { fio: 100 })).toBe(false)
    expect(met('lower', { virtio: 0.5 }, 50, { virtio: 100 })).toBe(true)
    expect(met('lower', { virtio: 0.5 }, 51, { virtio: 100 })).toBe(false)
  })

  test('may have a goal for its own figure', () => {
    expect(met('lower', { ours: 100 }, 100, {})).toBe(true)
    expect(met('lower', { ours: 100 }, 100.1, {})).toBe(false)
  })

  test('must meet every goal, and meets none at all', () => {
    expect(met('higher', { a: 1, b: 2 }, 10, { a: 10, b: 6 })).toBe(false)
    expect(met('higher', {}, 1, { a: 10 })).toBe(true)
  })

  test('with a goal for a peer that was not measured is a fault', () => {
    expect(() => met('higher', { absent: 1 }, 1, {})).toThrow('no peer absent')
  })

  test('tells the ratio of ours to each peer', () => {
    const result = judge('kmod', 'wall-clock', testCase('higher', {}), { ours: 30, peers: { a: 20, b: 60 } }, 2)
    expect(result).toMatchObject({ case: 'a-case', ratios: { a: 1.5, b: 0.5 }, retries: 2 })
  })
})

describe('the command', () => {
  const bench = (...args: string[]) =>
    spawnSync(process.execPath, ['--import', 'tsx', 'test/bench/main.ts', ...args], { cwd: top, encoding: 'utf8' })

  test('knows what it does not know, in one line', () => {
    const { status, stdout, stderr } = bench('nonsense')
    expect({ status, stdout, stderr }).toEqual({
      ...{ status: 2, stdout: '' },
      stderr: expect.stringMatching(/^bench: unknown suite 'nonsense'; there is [\w, ]+\n$/),
    })
    expect(bench('kmod', '--case', 'nonsense').stderr).toMatch(/^bench: unknown case 'nonsense'; there is .*\n$/)
  })

  test('answers with --json in failure too', () => {
    const { status, stdout } = bench('nonsense', '--json')
    expect(status).toBe(2)
    expect(JSON.parse(stdout)).toMatchObject({ ok: false, error: { code: 'usage', exitCode: 2 }, warnings: [] })
  })
})
