// SPDX-License-Identifier: GPL-2.0-or-later
// The built program as it is installed: one bundle, started by bin/run.js, with V8's compiled code kept beside it.

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod, cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals'
import { top } from '../lab/setup/paths.ts'

jest.setTimeout(120_000)

let dir: string
const codeCache = () => join(dir, 'dist/code-cache')

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'vblk-bundle-'))
  await chmod(dir, 0o755)
  for (const name of ['bin', 'dist', 'package.json']) await cp(join(top, name), join(dir, name), { recursive: true })
  await rm(codeCache(), { recursive: true, force: true })
})

afterEach(async () => {
  await rm(dir, { recursive: true, force: true })
})

function run(argv: string[], uid = 0) {
  const env = { ...process.env, NODE_OPTIONS: '', HOME: '/nonexistent' }
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(dir, 'bin/run.js'), ...argv], {
    encoding: 'utf8',
    env,
    uid,
    gid: uid,
    cwd: '/',
  })
  return { status, stdout, stderr }
}

const failing = ['list', '/nonexistent/vm.sock']
const failure = { status: 3, stdout: '', stderr: 'Error: /nonexistent/vm.sock: no such socket\n' }

test('runs without any package beside it', () => {
  expect(run(failing)).toEqual(failure)
})

test('knows every command', async () => {
  const manifest = JSON.parse(await readFile(join(top, 'oclif.manifest.json'), 'utf8'))
  const ids = Object.keys(manifest.commands)
  expect(ids.length).toBeGreaterThan(5)
  for (const id of ids) {
    const { status, stderr } = run([...id.split(':'), '--nonsense'])
    expect({ id, status, stderr }).toMatchObject({ id, status: 2, stderr: expect.stringContaining('--nonsense') })
  }
})

test('--version names the package, the platform and Node', () => {
  const { version } = JSON.parse(spawnSync('cat', [join(dir, 'package.json')], { encoding: 'utf8' }).stdout)
  const stdout = `vblk/${version} ${process.platform}-${process.arch} node-${process.version}\n`
  expect(run(['--version'])).toEqual({ status: 0, stdout, stderr: '' })
})

/** The kept code, and the commands that it is known to be complete for. */
async function kept(): Promise<{ file: string; commands: string[] }> {
  const [name = '', list = ''] = (await readdir(codeCache())).sort()
  expect(list).toBe(`${name}.commands`)
  const commands = (await readFile(join(codeCache(), list), 'utf8')).split('\n').filter(Boolean)
  return { file: join(codeCache(), name), commands }
}

test('what a command compiled is kept beside what others did, once it ends well', async () => {
  expect(run(failing)).toEqual(failure)
  expect((await kept()).commands).toEqual([])
  expect(run(['vm', 'list'])).toMatchObject({ status: 0 })
  const { file, commands } = await kept()
  expect(commands).toEqual(['vm:list'])
  const { size } = await stat(file)
  expect(run(['migrate', 'history'])).toMatchObject({ status: 0 })
  expect((await kept()).commands).toEqual(['vm:list', 'migrate:history'])
  expect((await stat(file)).size).toBeGreaterThan(size)
})

test('compiled code is kept, used as it is, and replaced when it is damaged', async () => {
  expect(run(failing)).toEqual(failure)
  const { file } = await kept()
  const { mtimeMs, size } = await stat(file)
  expect(size).toBeGreaterThan(100_000)

  expect(run(failing)).toEqual(failure)
  expect((await kept()).file).toBe(file)
  expect((await stat(file)).mtimeMs).toBe(mtimeMs)

  await writeFile(file, Buffer.alloc(size, 7))
  expect(run(failing)).toEqual(failure)
  expect((await kept()).file).toBe(file)
  expect((await readFile(file)).every((byte) => byte === 7)).toBe(false)
})

test('code compiled from another bundle of the same length is not run', async () => {
  const bundle = join(dir, 'dist/vblk.cjs')
  const [first, ...rest] = (await readFile(bundle, 'utf8')).split('\n')
  const hash = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 16)
  expect(first).toBe(`// ${hash(rest.join('\n'))}`)
  expect(run(failing)).toEqual(failure)

  const changed = rest.join('\n').replaceAll('no such socket', 'no sick socket')
  await writeFile(bundle, `// ${hash(changed)}\n${changed}`)
  expect(run(failing)).toMatchObject({ stderr: 'Error: /nonexistent/vm.sock: no sick socket\n' })
})

test('who may not write to the package runs it all the same, and leaves nothing', async () => {
  expect(run(failing, 65534)).toEqual(failure)
  expect(await readdir(join(dir, 'dist'))).not.toContain('code-cache')
})
