// SPDX-License-Identifier: GPL-2.0-or-later
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from '@jest/globals'
import { runTool } from '../../../src/host/run-tool.ts'

test('returns the exit code, stdout, and the last lines of both streams', async () => {
  const seen: string[] = []
  const script = 'echo first; echo second >&2; for i in $(seq 30); do echo $i; done; exit 3'
  const result = await runTool('sh', ['-c', script], { package: 'dash', onLine: (line) => seen.push(line) })
  expect(result.exitCode).toBe(3)
  // Two pipes have no order between them.
  expect(result.tail).toHaveLength(20)
  expect(result.tail.filter((line) => line !== 'second').slice(-19)).toEqual(
    Array.from({ length: 19 }, (_, index) => String(index + 12)),
  )
  expect(seen).toContain('second')
  expect(result.stdout.split('\n')).toHaveLength(31)
  expect(seen).toHaveLength(32)
})

test('arguments reach the program as they are', async () => {
  const args = ['a b', '$HOME', '"; rm -rf x', '', 'new\nline']
  const { stdout } = await runTool('printf', ['%s\\0', ...args], { package: 'coreutils' })
  expect(stdout.split('\0').slice(0, -1)).toEqual(args)
})

test('a missing program names its package', async () => {
  await expect(runTool('no-such-program', [], { package: 'some-package' })).rejects.toMatchObject({
    code: 'NO_TOOL',
    exitCode: 4,
    message: 'no-such-program is not installed',
    hint: 'apt-get install some-package',
  })
})

/** A shell that leaves a child behind when it alone is killed; its first line is the child's pid. */
const parent = 'sleep 60 & echo $!; wait'

test('an abort ends what the program has started, and the reason is thrown', async () => {
  const controller = new AbortController()
  const reason = new Error('stop')
  let child = ''
  const run = runTool('sh', ['-c', parent], {
    package: 'dash',
    signal: controller.signal,
    onLine: (line) => {
      child = line
      controller.abort(reason)
    },
  })
  await expect(run).rejects.toBe(reason)
  await expectGone(child)
  await expect(runTool('true', [], { package: 'coreutils', signal: controller.signal })).rejects.toBe(reason)
})

test('the time limit does so too', async () => {
  let child = ''
  const run = runTool('sh', ['-c', parent], {
    package: 'dash',
    timeoutMs: 500,
    onLine: (line) => {
      child = line
    },
  })
  await expect(run).rejects.toMatchObject({ code: 'TIMED_OUT', exitCode: 6, message: 'sh was stopped after 0.5 s' })
  await expectGone(child)
})

async function expectGone(pid: string): Promise<void> {
  for (let i = 0; i < 50 && existsSync(`/proc/${pid}/cmdline`); i++) await sleep(20)
  expect(pid).toMatch(/^\d+$/)
  expect(existsSync(`/proc/${pid}/exe`)).toBe(false)
}
