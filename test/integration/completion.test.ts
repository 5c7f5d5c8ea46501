// SPDX-License-Identifier: GPL-2.0-or-later
// Completion as bash itself does it, with the script of the built program.

import { execFileSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import { program } from './program.ts'
import { makeFolder, removeFolder, vblk } from './qemu.ts'

jest.setTimeout(60_000)

let dir: string
let script: string

beforeAll(async () => {
  dir = await makeFolder()
  script = (await vblk(['completion', 'bash'], { text: true })).stdout
  await writeFile(join(dir, 'script'), script)
  await mkdir(join(dir, 'config/vms'), { recursive: true })
  await writeFile(join(dir, 'config/vms/web-1.json'), '{"address":"/run/web-1.qmp"}', { mode: 0o600 })
  await writeFile(join(dir, 'disk.raw'), '')
  await writeFile(join(dir, 'vblk'), `#!/bin/sh\nexec ${process.execPath} ${program} "$@"\n`, { mode: 0o755 })
})
afterAll(() => removeFolder(dir))

/** What bash offers at the end of a line. */
function complete(line: string): string[] {
  const words = line.split(' ')
  const ask = `source ./script; COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}
_vblk; printf '%s\\n' "\${COMPREPLY[@]}"`
  const env = { ...process.env, PATH: `${dir}:${process.env.PATH}`, VBLK_CONFIG_DIR: join(dir, 'config') }
  return execFileSync('bash', ['-uc', ask], { cwd: dir, env, encoding: 'utf8' }).split('\n').filter(Boolean)
}

test('commands, and those of a topic', () => {
  expect(complete('vblk at')).toEqual(['attach'])
  expect(complete('vblk ')).toEqual(expect.arrayContaining(['apply', 'attach', 'list', 'module', 'vm']))
  expect(complete('vblk vm ')).toEqual(['add', 'list', 'remove', 'show'])
})

test('flags and their values, at any place', () => {
  expect(complete('vblk attach web-1 disk.raw --read')).toEqual(['--read-only'])
  expect(complete('vblk attach --datapath ')).toEqual(['kernel', 'userspace', 'auto'])
  expect(complete('vblk attach --id a w')).toEqual(['web-1'])
  expect(complete('vblk datapath web-1 d1 ')).toEqual(['kernel', 'userspace'])
  expect(complete('vblk vm add --d')).toEqual(['--dry-run'])
})

test('registered VMs and files', () => {
  expect(complete('vblk list web')).toEqual(['web-1'])
  expect(complete('vblk attach web-1 d')).toEqual(['disk.raw'])
})

test('no shell complains of its script', async () => {
  expect(script).toContain('complete -F _vblk vblk')
  execFileSync('bash', ['-n', join(dir, 'script')])
  for (const shell of ['zsh', 'fish']) {
    const { exitCode, stdout } = await vblk(['completion', shell], { text: true })
    expect({ exitCode, ok: stdout.includes('vblk') }).toEqual({ exitCode: 0, ok: true })
  }
  expect((await vblk(['completion', 'tcsh'])).exitCode).toBe(2)
  expect((await vblk(['completion'])).exitCode).toBe(2)
})
