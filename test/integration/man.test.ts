// SPDX-License-Identifier: GPL-2.0-or-later
import { spawnSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test } from '@jest/globals'
import { top } from '../lab/setup/paths.ts'

const page = join(top, 'dist/vblk.1')
let shown: string

beforeAll(async () => {
  const { stdout } = spawnSync('man', ['--local-file', page], {
    encoding: 'utf8',
    env: { ...process.env, MANWIDTH: '2000', LC_ALL: 'C.UTF-8', MAN_KEEP_FORMATTING: '' },
  })
  // A machine without man has its source to be looked at.
  shown = stdout || (await readFile(page, 'utf8')).replaceAll('\\-', '-').replace(/\\f[BIR]/g, '')
})

test('every command and each of its flags is in the man page', async () => {
  const { commands } = JSON.parse(await readFile(join(top, 'oclif.manifest.json'), 'utf8'))
  const all = Object.values(commands) as { id: string; flags: Record<string, { name: string }> }[]
  expect(all.length).toBeGreaterThan(20)
  for (const { id, flags } of all) {
    expect(shown).toContain(`vblk ${id.replaceAll(':', ' ')}`)
    for (const { name } of Object.values(flags)) expect(shown).toContain(`--${name}`)
  }
})

test('no request and no character in it is unknown to roff', () => {
  const { error, stdout, stderr } = spawnSync('groff', ['-man', '-Tutf8', '-ww', '-z', page], { encoding: 'utf8' })
  if (error) console.warn(`not checked: ${error.message}`)
  else expect(stdout + stderr).toBe('')
})
