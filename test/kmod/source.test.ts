// SPDX-License-Identifier: GPL-2.0-or-later
// The module as a source package: checked by sparse and checkpatch, built by DKMS, signed. All in the lab's root, none of it in a kernel.
import { copyFile, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { execa } from 'execa'
import { ensureKernel } from '../lab/machine.ts'
import { kernelSource, sourceStage } from '../lab/setup/debug-kernel.ts'
import { type HostKernel, hostKernels, KernelUnavailable } from '../lab/setup/kernels.ts'
import { cache, top } from '../lab/setup/paths.ts'
import { ensure } from '../lab/setup/stage.ts'
import { kernelRelease } from '../lab/setup/stages.ts'

const kver = kernelRelease()
let dir: string

/** Runs a program in the root; its output tells why if it fails. */
async function inRoot(...argv: string[]): Promise<string> {
  return (await execa(join(top, 'script/in-root'), argv, { all: true })).all
}

beforeAll(async () => {
  dir = await mkdtemp(join(cache, 'source-'))
})

afterAll(async () => {
  await rm(dir, { recursive: true, force: true })
})

test('sparse has nothing to say', async () => {
  expect(await inRoot('make', '-s', '-C', join(top, 'kmod'), 'check', `KVER=${kver}`, `O=${join(dir, 'check')}`)).toBe(
    '',
  )
}, 120_000)

const long = process.env.VBLK_LONG ? test : test.skip

long(
  'nor has checkpatch.pl, strict',
  async () => {
    await ensure([sourceStage], (line) => process.stderr.write(`${line}\n`))
    const script = `CHECKPATCH=${join(kernelSource, 'scripts/checkpatch.pl')}`
    const { all } = await execa(
      join(top, 'script/in-root'),
      ['make', '-s', '-C', join(top, 'kmod'), 'style', script, `O=${join(dir, 'style')}`],
      { all: true, reject: false },
    )
    expect(all).toBe('')
  },
  600_000,
)

/** A kernel that comes when the module is there already: the archive's of other releases, if it has one. */
async function otherKernel(): Promise<HostKernel> {
  for (const name of ['6.1', '7']) {
    const kernel = hostKernels[name] as HostKernel
    try {
      await ensureKernel(kernel, (line) => process.stderr.write(`${line}\n`))
      return kernel
    } catch (error) {
      if (!(error instanceof KernelUnavailable)) throw error
    }
  }
  throw new Error("the Debian archive has no kernel but the lab's")
}

test('DKMS builds it, and again for a kernel that is installed later', async () => {
  const trees = ['--dkmstree', join(dir, 'dkms'), '--sourcetree', join(dir, 'src')]
  await inRoot('mkdir', '-p', join(dir, 'dkms'), join(dir, 'src'))
  await inRoot('cp', '-r', join(top, 'kmod'), join(dir, 'src/vhost-blk-0.1.0'))
  await inRoot('dkms', 'add', '-m', 'vhost-blk', '-v', '0.1.0', ...trees)
  await inRoot('dkms', 'build', '-m', 'vhost-blk', '-v', '0.1.0', '-k', kver, ...trees)
  const later = await otherKernel()
  // What the hook of the kernel's package calls.
  const autoinstall = ['dkms', 'autoinstall', '-k', later.release(), ...trees]
  // Its own compiler would come with its headers; the root's does.
  const env = { VBLK_OVERLAY: later.tree, MAKEFLAGS: 'CC=gcc' }
  await execa(join(top, 'script/in-root'), autoinstall, { env })
  for (const release of [kver, later.release()]) {
    const built = join(dir, 'dkms/vhost-blk/0.1.0', release, 'x86_64/module')
    const [module = ''] = await readdir(built)
    expect(module).toMatch(/^vhost_blk\.ko/)
    expect(await inRoot('modinfo', '-F', 'vermagic', join(built, module))).toMatch(`${release} `)
  }
}, 600_000)

test('kmod/sign signs it with a key that root alone can read, once', async () => {
  const module = join(dir, 'vhost_blk.ko')
  const keys = join(dir, 'keys')
  await copyFile(join(cache, 'kmod', kver, 'vhost_blk.ko'), module)
  expect(await inRoot('modinfo', '-F', 'signer', module)).toBe('')
  expect(await inRoot(join(top, 'kmod/sign'), module, keys)).toContain('mokutil --import')
  expect(await inRoot('modinfo', '-F', 'signer', module)).not.toBe('')
  const { size } = await stat(module)
  await expect(inRoot(join(top, 'kmod/sign'), module, keys)).rejects.toThrow(/is signed already, by /)
  expect((await stat(module)).size).toBe(size)
  expect((await stat(keys)).mode & 0o777).toBe(0o700)
  expect((await stat(join(keys, 'key.pem'))).mode & 0o777).toBe(0o600)
}, 60_000)
