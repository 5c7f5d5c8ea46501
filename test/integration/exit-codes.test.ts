// SPDX-License-Identifier: GPL-2.0-or-later
// Each exit code by something that happens to operators. A failed migration that is rolled back (7) takes two QEMUs: see
// migrate-rollback.test.ts, and test/cli/module.test.ts for a module that doesn't load.

import { once } from 'node:events'
import { chmod, cp, mkdtemp, readFile, rm, truncate, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals'
import { execa } from 'execa'
import { QmpClient } from '../../src/qmp/index.ts'
import { top } from '../lab/setup/paths.ts'
import './program.ts'
import { makeFolder, makeImage, Qemu, removeFolder, startVblk, vblk } from './qemu.ts'

jest.setTimeout(60_000)

let dir: string
let image: string

beforeAll(async () => {
  dir = await makeFolder()
  image = await makeImage(join(dir, 'disk.raw'))
})
afterAll(() => removeFolder(dir))

/** An exit code is the process's, and the document's. */
const ended = (exitCode: number, code: string) =>
  expect.objectContaining({
    exitCode,
    envelope: expect.objectContaining({ ok: false, error: expect.objectContaining({ exitCode, code }) }),
  })

describe('of what is asked of a VM', () => {
  let qemu: Qemu
  beforeAll(async () => {
    qemu = await Qemu.start(dir, 'vm')
  })
  afterAll(() => qemu?.stop())
  const attach = (...flags: string[]) => [
    'attach',
    qemu.socket,
    image,
    '--id',
    'd',
    '--datapath',
    'userspace',
    ...flags,
  ]

  test('0: done, and done already', async () => {
    expect(await vblk(attach())).toMatchObject({ exitCode: 0, envelope: { result: { changed: true } } })
    expect(await vblk(attach())).toMatchObject({ exitCode: 0, envelope: { result: { changed: false } } })
  })

  test('2: a flag that does not exist', async () => {
    expect(await vblk(attach('--nonsense'))).toEqual(ended(2, 'USAGE'))
  })

  test('3: a disk that is not there', async () => {
    expect(await vblk(['show', qemu.socket, 'other'])).toEqual(ended(3, 'DISK_NOT_FOUND'))
  })

  test.each([[[]], [['--json']]])('4: no room for the result: %j', async (flags) => {
    const shell = 'exec "$0" "$1" list "$2" $3 >/dev/full'
    const command = [shell, process.execPath, join(top, 'bin/run.js'), qemu.socket, ...flags]
    const { exitCode, stderr } = await execa('sh', ['-c', ...command], { reject: false })
    expect({ exitCode, stderr }).toEqual({
      exitCode: 4,
      stderr:
        'Error: the result could not be written: ENOSPC: no space left on device, write\n' +
        'Hint: what was asked for has been done',
    })
  })

  test('5: a disk that differs from what is there', async () => {
    expect(await vblk(attach('--serial', 'OTHER'))).toEqual(ended(5, 'DISK_DIFFERS'))
  })

  test('6: a guest that has not given the disk back yet', async () => {
    expect(await vblk(['detach', qemu.socket, 'd', '--timeout', '1'])).toEqual(ended(6, 'DETACH_PENDING'))
  })

  test('9: a monitor that another client holds', async () => {
    const client = await QmpClient.connect({ path: qemu.socket })
    expect(await vblk(attach())).toEqual(ended(9, 'VM_BUSY'))
    await client.close()
  })

  test('130: Ctrl-C', async () => {
    const { process: child, outcome } = startVblk(['events', qemu.socket, '--verbose'])
    if (child.stderr !== null) await once(child.stderr, 'data')
    child.kill('SIGINT')
    expect(await outcome).toEqual(ended(130, 'INTERRUPTED'))
  })

  test('8: a QEMU that is killed while it removes a disk', async () => {
    const { process: child, outcome } = startVblk(['detach', qemu.socket, 'd', '--verbose'])
    await new Promise<void>((resolve) =>
      child.stderr?.on('data', (text) => String(text).includes('device_del') && resolve()),
    )
    qemu.process.kill('SIGKILL')
    expect(await outcome).toEqual(ended(8, 'QMP_CONNECTION_LOST'))
  })
})

describe('of an installation', () => {
  let installed: string
  const list = ['list', '/nonexistent/vm.sock']
  const run = (...argv: string[]) =>
    execa(process.execPath, [join(installed, 'bin/run.js'), ...argv], { reject: false, env: { NODE_OPTIONS: '' } })

  async function install(): Promise<void> {
    installed = await mkdtemp(join(tmpdir(), 'vblk-codes-'))
    for (const name of ['bin', 'dist', 'package.json', 'oclif.manifest.json'])
      await cp(join(top, name), join(installed, name), { recursive: true })
    await rm(join(installed, 'dist/code-cache'), { recursive: true, force: true })
  }

  /** Works on a fresh one. */
  async function withInstallation(work: () => Promise<void>): Promise<void> {
    await install()
    try {
      await work()
    } finally {
      await rm(installed, { recursive: true, force: true })
    }
  }

  test('1: the program runs into a fault of its own', () =>
    withInstallation(async () => {
      const bundle = join(installed, 'dist/vblk.cjs')
      const text = await readFile(bundle, 'utf8')
      const planted = text.replace(/(?<=async function resolveVm\()\w+/, '{ $& }')
      expect(planted).not.toBe(text)
      await writeFile(bundle, planted.replace(/^\/\/ .*/, '// 0123456789abcdef'))
      const { exitCode, stdout, stderr } = await run(...list)
      expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' })
      expect(stderr).toMatch(
        /^Error: a bug in vblk: \w+Error: .*\nHint: report it with .*--verbose, and of: vblk --version$/,
      )
      const json = await run(...list, '--json')
      expect(JSON.parse(json.stdout)).toMatchObject({ ok: false, error: { code: 'BUG', exitCode: 1 } })
      expect(json).toMatchObject({ exitCode: 1, stderr: '' })
    }))

  test.each([
    ['cut off', 'dist/vblk.cjs', list, (file: string) => truncate(file, 200_000)],
    ['empty', 'dist/vblk.cjs', list, (file: string) => truncate(file, 0)],
    ['gone', 'dist/vblk.cjs', list, unlink],
    ['cut off', 'dist/help.cjs', ['list', '--help'], (file: string) => truncate(file, 1000)],
    ['gone', 'dist/help.cjs', ['list', '--help'], unlink],
    ['no JSON', 'oclif.manifest.json', ['list', '--help'], (file: string) => writeFile(file, '{')],
  ])('4: %s: %s', (_how, name, argv, damage) =>
    withInstallation(async () => {
      const file = join(installed, name)
      await damage(file)
      const { exitCode, stdout, stderr } = await run(...argv)
      expect({ exitCode, stdout }).toEqual({ exitCode: 4, stdout: '' })
      const [first, second, ...rest] = stderr.split('\n')
      expect(first).toContain(`Error: this installation of vblk can't be used: ${file}: `)
      expect([second, ...rest]).toEqual(['Hint: install vblk again'])
      const json = await run(...argv, '--json')
      expect(JSON.parse(json.stdout)).toMatchObject({ ok: false, error: { code: 'DAMAGED', exitCode: 4 } })
    }),
  )

  test('4: a file that the user may not read', () =>
    withInstallation(async () => {
      await chmod(installed, 0o755)
      await chmod(join(installed, 'dist/vblk.cjs'), 0o600)
      const { exitCode, stderr } = await execa(process.execPath, [join(installed, 'bin/run.js'), ...list], {
        reject: false,
        uid: 65534,
        gid: 65534,
      })
      expect(exitCode).toBe(4)
      expect(stderr).toMatch(/EACCES: permission denied.*\nHint: run it as a user who may read that file$/)
    }))
})
