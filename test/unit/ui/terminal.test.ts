// SPDX-License-Identifier: GPL-2.0-or-later
// Steps on a real terminal: script(1) makes one.
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify, stripVTControlCharacters } from 'node:util'
import { afterAll, expect, jest, test } from '@jest/globals'
import { buildFixture } from './run-fixture.ts'

jest.setTimeout(30_000)

const fixture = buildFixture()
afterAll(() => fixture.remove())

async function onTerminal(args: string): Promise<{ terminal: string; stdout: string }> {
  const dir = mkdtempSync(join(tmpdir(), 'vblk-tty-'))
  // stdout goes to a file: what is left on the terminal is stderr.
  const command = `'${process.execPath}' '${fixture.program}' ${args} >'${dir}/stdout'`
  const env = { ...process.env, TERM: 'xterm', NODE_OPTIONS: '', CI: '' }
  const { stdout } = await promisify(execFile)('script', ['-qec', command, '/dev/null'], { env })
  const result = { terminal: stdout, stdout: readFileSync(join(dir, 'stdout'), 'utf8') }
  rmSync(dir, { recursive: true })
  return result
}

test('steps and waits are drawn on stderr, and stdout has the result alone', async () => {
  const { terminal, stdout } = await onTerminal('end steps --json')
  const shown = stripVTControlCharacters(terminal)
  expect(shown).toMatch(/✔ first step/)
  expect(shown).toMatch(/✔ waiting for it/)
  expect(shown).toMatch(/for information/)
  expect(JSON.parse(stdout)).toMatchObject({ ok: true, result: { how: 'steps' } })
})

test('the traffic shown by --verbose is never drawn over', async () => {
  const { terminal } = await onTerminal('end steps -v')
  expect(terminal.replaceAll('\r', '')).toBe(
    'traffic \\x1b[31m\n- first step\n- inner step\n- waiting for it\nfor information\n',
  )
})
