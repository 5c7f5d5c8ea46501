// SPDX-License-Identifier: GPL-2.0-or-later
// Kernels that load only what is signed by a key they trust, as with Secure Boot.
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { Lab } from '../lab/lab.ts'
import { cache, top } from '../lab/setup/paths.ts'
import { runInRoot } from '../lab/setup/run.ts'
import { kernelRelease } from '../lab/setup/stages.ts'

let lab: Lab | undefined
let dir: string

beforeEach(async () => {
  dir = await mkdtemp(join(cache, 'signing-'))
})

afterEach(async () => {
  await lab?.stop()
  lab = undefined
  await rm(dir, { recursive: true, force: true })
})

/** From now on this kernel enforces signatures; nothing takes that back. */
const enforce = (lab: Lab) =>
  lab.check(['sh', '-c', 'modprobe vhost && echo 1 >/sys/module/module/parameters/sig_enforce'])

/** Loads a module from a file of this machine. */
const load = async (lab: Lab, path: string) =>
  await lab.exec(['sh', '-c', 'cat >/run/vhost_blk.ko && insmod /run/vhost_blk.ko'], { stdin: await readFile(path) })

/** A kernel's module, built for it, without what was appended to sign it. */
async function unsigned(module: string): Promise<string> {
  const copy = join(dir, 'unsigned.ko')
  await copyFile(module, copy)
  await runInRoot(['strip', '--strip-debug', copy])
  expect(await runInRoot(['modinfo', '-F', 'signer', copy])).toBe('')
  return copy
}

test('a module that nobody signed, or by a key that the kernel does not know, is refused', async () => {
  const module = await unsigned(join(cache, 'kmod', kernelRelease(), 'vhost_blk.ko'))
  lab = await Lab.start()
  await enforce(lab)
  expect((await load(lab, module)).stderr).toMatch(/Key was rejected by service|Required key not available/)
  await runInRoot([join(top, 'kmod/sign'), module, join(dir, 'keys')])
  expect((await load(lab, module)).stderr).toMatch(/Key was rejected by service|Required key not available/)
  expect((await lab.exec(['test', '-e', '/dev/vhost-blk'])).exitCode).toBe(1)
}, 180_000)

if (process.env.VBLK_LONG)
  test('one that kmod/sign signed by a key that the kernel trusts is loaded', async () => {
    lab = await Lab.start({ kernel: 'kcsan', smp: 4 })
    await enforce(lab)
    const signed = join(cache, 'kernels/kcsan/kmod/vhost_blk.ko')
    expect((await load(lab, await unsigned(signed))).stderr).toMatch(/Key was rejected by service|Required key/)
    expect(await load(lab, signed)).toMatchObject({ exitCode: 0, stderr: '' })
    expect((await lab.exec(['test', '-c', '/dev/vhost-blk'])).exitCode).toBe(0)
  }, 1_800_000)
