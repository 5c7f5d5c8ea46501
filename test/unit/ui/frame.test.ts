// SPDX-License-Identifier: GPL-2.0-or-later
// The frame of all commands, seen from outside: exact stdout, stderr and exit code of real processes.
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, jest, test } from '@jest/globals'
import { buildFixture, type Finished, finished, startFixture as start } from './run-fixture.ts'

jest.setTimeout(30_000)

const fixture = buildFixture()
afterAll(() => fixture.remove())

const startFixture = (args: string[], env?: NodeJS.ProcessEnv) => start(fixture, args, env)
const runFixture = (args: string[], env?: NodeJS.ProcessEnv): Promise<Finished> => finished(startFixture(args, env))

const bugHint = 'report it with the output of the same command with --verbose, and of: vblk --version'

describe('text', () => {
  test('a result goes to stdout', async () => {
    expect(await runFixture(['end', 'well'])).toEqual({ code: 0, stdout: 'ended well\n', stderr: '' })
  })

  test('an error is one line and a hint, with nothing that a terminal would obey', async () => {
    expect(await runFixture(['end', 'refused'])).toEqual({
      code: 5,
      stdout: '',
      stderr: 'Error: QEMU said \\x1b]0;no\\x07\\nno\nHint: ask again\n',
    })
  })

  test('steps are lines on stderr when it is no terminal', async () => {
    expect(await runFixture(['end', 'steps'])).toEqual({
      code: 0,
      stdout: 'ended steps\n',
      stderr: '- first step\n- inner step\n- waiting for it\nfor information\n',
    })
  })

  test('--quiet leaves warnings', async () => {
    expect(await runFixture(['end', 'steps', '--quiet', '--warn', 'careful'])).toEqual({
      code: 0,
      stdout: 'ended steps\n',
      stderr: 'Warning: careful\n',
    })
  })

  test('--verbose shows the traffic', async () => {
    const { stderr } = await runFixture(['end', 'well', '-v'])
    expect(stderr).toBe('traffic \\x1b[31m\n')
  })

  test('a bug says so, and shows its stack with --verbose', async () => {
    expect(await runFixture(['end', 'bug'])).toEqual({
      code: 1,
      stdout: '',
      stderr: `Error: a bug in vblk: TypeError: x is not a function\nHint: ${bugHint}\n`,
    })
    expect((await runFixture(['end', 'bug', '--verbose'])).stderr).toMatch(/\n {4}at /)
  })
})

describe('--json', () => {
  test('success', async () => {
    expect(await runFixture(['end', 'well', '--json', '--timeout', '1.5', '--warn', 'careful'])).toEqual({
      code: 0,
      stdout: `${JSON.stringify({
        ok: true,
        result: { how: 'well', timeoutMs: 1500, big: '9223372036854775808' },
        warnings: ['careful'],
      })}\n`,
      stderr: 'Warning: careful\n',
    })
  })

  test('failure', async () => {
    expect(await runFixture(['end', 'refused', '--json', '--warn', 'careful'])).toEqual({
      code: 5,
      stdout: `${JSON.stringify({
        ok: false,
        error: {
          code: 'REFUSED',
          exitCode: 5,
          message: 'QEMU said \u001b]0;no\u0007\nno',
          hint: 'ask again',
          details: { answer: 'no' },
        },
        warnings: ['careful'],
      })}\n`,
      stderr: 'Warning: careful\n',
    })
  })

  test('the exit code is in the document and of the process', async () => {
    const codes = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    const runs = await Promise.all(
      codes.map((code) => runFixture(['end', 'refused', '--json', '--code', String(code)])),
    )
    expect(runs.map(({ code }) => code)).toEqual(codes)
    expect(runs.map(({ stdout }) => JSON.parse(stdout).error.exitCode)).toEqual(codes)
  })

  test.each([
    ['bug', 'TypeError: x is not a function'],
    ['stray', 'Error: from a timer'],
    ['stray-rejection', 'Error: from a promise'],
    ['never', 'Error: nothing is left to wait for, and the command has not finished'],
  ])('a bug is a document too: %s', async (how, what) => {
    expect(await runFixture(['end', how, '--json'])).toEqual({
      code: 1,
      stdout: `${JSON.stringify({
        ok: false,
        error: { code: 'BUG', exitCode: 1, message: `a bug in vblk: ${what}`, hint: bugHint },
        warnings: [],
      })}\n`,
      stderr: '',
    })
  })
})

describe('usage', () => {
  test.each([
    [['end'], 'missing argument HOW', 'see: vblk end --help'],
    [['end', 'well', 'extra'], 'unexpected argument: extra', 'see: vblk end --help'],
    [['end', 'well', '--nonsense'], 'no such option: --nonsense', 'see: vblk end --help'],
    [['end', 'well', '--code', 'x'], '--code: expected an integer but received: x', 'see: vblk end --help'],
    [['end', 'well', '--code'], 'flag --code expects a value', 'see: vblk end --help'],
    [
      ['topic', 'work', '--end', 'x'],
      'expected --end=x to be one of: reason, cause, rolled-back, unknown, other',
      'see: vblk topic work --help',
    ],
    ...['0', 'soon', '2147484', ''].map((seconds): [string[], string, string] => [
      ['end', 'well', `--timeout=${seconds}`],
      `--timeout: expected a number of seconds above 0 and up to 2147483, not '${seconds}'`,
      'see: vblk end --help',
    ]),
    [['edn'], 'no such command: edn', 'did you mean: vblk end'],
    [['topic', 'wrok'], 'no such command: topic wrok', 'did you mean: vblk topic work'],
    [['topic', 'work', 'extra'], 'unexpected argument: extra', 'see: vblk topic work --help'],
    [['something', 'else'], 'no such command: something else', 'see: vblk --help'],
    [['--nonsense'], 'no command given', 'see: vblk --help'],
  ])('%p', async (args, message, hint) => {
    const [asText, asJson] = await Promise.all([runFixture(args), runFixture([...args, '--json'])])
    expect(asText).toEqual({ code: 2, stdout: '', stderr: `Error: ${message}\nHint: ${hint}\n` })
    expect(asJson).toEqual({
      code: 2,
      stdout: `${JSON.stringify({ ok: false, error: { code: 'USAGE', exitCode: 2, message, hint }, warnings: [] })}\n`,
      stderr: '',
    })
  })

  test('a topic alone shows its help, which is no JSON', async () => {
    expect((await runFixture(['topic'])).stdout).toMatch(/^a topic\n/)
    const { code, stdout } = await runFixture(['topic', '--json'])
    expect([code, JSON.parse(stdout).error.message]).toEqual([2, 'no such command: topic'])
  })

  test('--json after -- is an argument', async () => {
    expect(await runFixture(['end', '--', '--json'])).toEqual({ code: 0, stdout: 'ended --json\n', stderr: '' })
  })

  test('help lists commands, topics and exit codes', async () => {
    const { code, stdout, stderr } = await runFixture(['--help'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(
      /TOPICS\n {2}topic {2}a topic\n\nCOMMANDS\n {2}end {2}ends in the way it is told\n\nEXIT CODES\n {2}0 {4}done/,
    )
    expect(stdout).toMatch(/\n {2}130 {2}interrupted by a signal, and rolled back\n/)
    expect((await runFixture(['topic', 'work', '--help'])).stdout).toMatch(/EXAMPLES\n {2}\$ vblk topic work\n/)
  })

  test('--version', async () => {
    expect((await runFixture(['--version'])).stdout).toMatch(/^fixture\/1\.2\.3 /)
  })
})

describe('interruption', () => {
  async function interrupt(args: string[], signals: NodeJS.Signals[]) {
    const child = startFixture(['topic', 'work', ...args])
    const done = finished(child)
    for (const signal of signals) {
      // The step's line, then the line about the signal before: the process is where we want it.
      await once(child.stderr, 'data')
      child.kill(signal)
    }
    return done
  }

  const interrupted = (signal: string) =>
    `${JSON.stringify({
      ok: false,
      error: {
        code: 'INTERRUPTED',
        exitCode: 130,
        message: `interrupted by ${signal} and rolled back`,
        hint: null,
        details: { signal },
      },
      warnings: [],
    })}\n`

  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s ends the command with 130', async (signal) => {
    expect(await interrupt(['--json'], [signal])).toEqual({
      code: 130,
      stdout: interrupted(signal),
      stderr: `- working\n${signal}: stopping and rolling back\n`,
    })
    expect(await interrupt([], [signal])).toEqual({
      code: 130,
      stdout: '',
      stderr: `- working\n${signal}: stopping and rolling back\nError: interrupted by ${signal} and rolled back\n`,
    })
  })

  test('a second signal does not cut the roll-back short', async () => {
    const { code, stderr } = await interrupt(['--rollback', '1000', '--end', 'rolled-back'], ['SIGINT', 'SIGTERM'])
    expect(code).toBe(130)
    expect(stderr).toContain('SIGTERM again: still rolling back')
  })

  test.each([
    ['cause', 130, 'INTERRUPTED'],
    ['rolled-back', 130, 'INTERRUPTED'],
    ['unknown', 8, 'AFTER_ABORT'],
    ['other', 5, 'OTHER'],
  ])('a command that ends with %p after the signal exits with %d', async (end, exitCode, name) => {
    const { code, stdout } = await interrupt(['--json', '--end', end], ['SIGINT'])
    expect([code, JSON.parse(stdout).error.code]).toEqual([exitCode, name])
  })
})

describe('the process', () => {
  test('runs no code from the home of its caller', async () => {
    const home = mkdtempSync(join(tmpdir(), 'vblk-home-'))
    const plugin = join(home, '.local/share/vblk')
    mkdirSync(plugin, { recursive: true })
    // What a user's plugin of oclif looks like; a list that cannot be read shows that it is never looked at.
    writeFileSync(join(plugin, 'package.json'), '{"oclif":{"plugins":')
    const { code, stderr } = await runFixture(['end', 'well'], { HOME: home })
    rmSync(home, { recursive: true })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  })

  test('ends although something is still open', async () => {
    expect(await runFixture(['end', 'with-open-handle'])).toEqual({
      code: 0,
      stdout: 'ended with-open-handle\n',
      stderr: '',
    })
  })

  test('a reader that goes away is no failure', async () => {
    const child = startFixture(['end', 'steps'])
    child.stdout.destroy()
    child.stderr.destroy()
    const [code] = await once(child, 'close')
    expect(code).toBe(0)
  })
})
