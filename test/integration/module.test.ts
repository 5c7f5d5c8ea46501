// SPDX-License-Identifier: GPL-2.0-or-later
// The module commands where nothing can be built or loaded; what they do with a real module is in the lab's tests.
import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals'
import { root } from '../lab/setup/paths.ts'
import { vblkInRoot } from './in-root.ts'
import { makeFolder, removeFolder, vblk } from './qemu.ts'

jest.setTimeout(60_000)

let dir: string
/** Folders with a vhost_blk.ko that is another kernel's vhost.ko, packed and not, and with broken ones. */
const otherKernel = () => join(dir, 'other')
const packed = () => join(dir, 'packed')

beforeAll(async () => {
  dir = await makeFolder()
  const [kernel = ''] = readdirSync(join(root, 'lib/modules'))
  const real = join(root, 'lib/modules', kernel, 'kernel/drivers/vhost/vhost.ko.xz')
  for (const folder of [otherKernel(), packed()]) mkdirSync(folder)
  copyFileSync(real, join(packed(), 'vhost_blk.ko.xz'))
  const module = execFileSync('xz', ['-dc', real], { maxBuffer: 1 << 26 })
  // A release that no machine runs, in case this one runs the lab's kernel.
  writeFileSync(
    join(otherKernel(), 'vhost_blk.ko'),
    Buffer.from(module.toString('latin1').replace('vermagic=6.', 'vermagic=0.'), 'latin1'),
  )
})
afterAll(() => removeFolder(dir))

const failed = (outcome: { exitCode: number | null; stdout: string; stderr: string }) => {
  expect(outcome.stdout).toBe('')
  return { exitCode: outcome.exitCode, stderr: outcome.stderr }
}

describe('module load', () => {
  test('a module for another kernel: both are named', async () => {
    const outcome = await vblk(['module', 'load', '--build-dir', otherKernel()], { text: true })
    expect(failed(outcome)).toEqual({
      exitCode: 4,
      stderr: expect.stringMatching(
        /^Error: \S+\/other\/vhost_blk\.ko was built for kernel 0\.\S+, and this is \S+\nHint: build it for this one: vblk module build\n$/,
      ),
    })
    expect(outcome.stderr).toContain(`and this is ${release()}\n`)
  })

  test('a packed module is read by modinfo', async () => {
    const { exitCode, stderr } = await vblkInRoot(['module', 'load', '--build-dir', packed()])
    expect(exitCode).toBe(4)
    expect(stderr).toMatch(/^Error: \S+\/packed\/vhost_blk\.ko\.xz was built for kernel 6\.\S+, and this is/)
  })

  test('no module', async () => {
    expect(failed(await vblk(['module', 'load', '--build-dir', join(dir, 'none')], { text: true }))).toEqual({
      exitCode: 4,
      stderr: `Error: there is no vhost_blk module in ${join(dir, 'none')}\nHint: build it: vblk module build\n`,
    })
  })

  test.each([
    ['cut short', (whole: Buffer) => whole.subarray(0, 3000), 'is cut short'],
    ['empty', () => Buffer.alloc(0), 'is no 64-bit ELF file'],
    ['text', () => Buffer.from('module'.repeat(100)), 'is no 64-bit ELF file'],
  ])('a module file that is %s', async (name, damage, complaint) => {
    const folder = join(dir, name)
    mkdirSync(folder)
    const path = join(folder, 'vhost_blk.ko')
    writeFileSync(path, damage(readFileSync(join(otherKernel(), 'vhost_blk.ko'))))
    for (const command of ['load', 'status']) {
      expect(failed(await vblk(['module', command, '--build-dir', folder], { text: true }))).toEqual({
        exitCode: 4,
        stderr: `Error: not a kernel module: ${path} ${complaint}\nHint: build it again: vblk module build\n`,
      })
    }
  })

  test('is named by $VBLK_MODULE_DIR as well', async () => {
    const { stderr } = await vblkInRoot(['module', 'load'], { VBLK_MODULE_DIR: otherKernel() })
    expect(stderr).toContain(`${otherKernel()}/vhost_blk.ko was built for kernel 0.`)
  })
})

describe('module build', () => {
  test('without headers: names the package, and makes no folder', async () => {
    const folder = join(dir, 'build')
    const outcome = await vblkInRoot(['module', 'build', '--quiet', '--build-dir', folder])
    expect(failed(outcome)).toEqual({
      exitCode: 4,
      stderr:
        `Error: the headers of kernel ${release()} are missing (/lib/modules/${release()}/build)\n` +
        `Hint: apt-get install linux-headers-${release()}\n`,
    })
    expect(existsSync(folder)).toBe(false)
  })
})

describe('module status', () => {
  test('tells what is there without touching it', async () => {
    const { exitCode, envelope } = await vblk(['module', 'status', '--build-dir', otherKernel()])
    expect(exitCode).toBe(0)
    expect(envelope).toMatchObject({
      ok: true,
      result: {
        kernel: release(),
        source: expect.stringMatching(/\/kmod$/),
        file: {
          path: join(otherKernel(), 'vhost_blk.ko'),
          kernel: expect.stringMatching(/^0\./),
          matches: false,
          installed: false,
        },
        loaded: null,
        users: [],
      },
    })
  })

  test('as text', async () => {
    const { stdout } = await vblk(['module', 'status', '--build-dir', join(dir, 'none')], { text: true })
    expect(stdout).toMatch(
      new RegExp(
        `^kernel {12}${release().replaceAll('.', '\\.').replaceAll('+', '\\+')}\nsource {12}\\S+/kmod\nmodule {12}not built\nbuilt for {9}-\nloaded {12}no\nopen descriptors {2}0\n$`,
      ),
    )
  })
})

test('commands that take no argument refuse one', async () => {
  expect(failed(await vblk(['module', 'unload', 'vhost_blk'], { text: true }))).toEqual({
    exitCode: 2,
    stderr: 'Error: unexpected argument: vhost_blk\nHint: see: vblk module unload --help\n',
  })
})
