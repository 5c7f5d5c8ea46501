// SPDX-License-Identifier: GPL-2.0-or-later
// Kernels that a host may run, beside the lab's own: other releases' by their packages, and some built to check (debug-kernel.ts).
// Nothing here is made by script/setup; a test that wants one asks for it, and it stays in the cache.
import { existsSync, readdirSync } from 'node:fs'
import { chmod, copyFile, mkdir, readFile, rename, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { openArchive } from './apt.ts'
import { makeDebugKernel, signingKeys, sourceStage } from './debug-kernel.ts'
import { writeInitramfs } from './initramfs.ts'
import { cache, root, top } from './paths.ts'
import { run, runInRoot } from './run.ts'
import type { Stage } from './stage.ts'
import { indexModules, rootStage } from './stages.ts'

/** What L1 boots and where the module for it lies. */
export interface HostKernel {
  /** Kernel, initramfs with the kernel's modules, and the tree of its packages: kept for good once made. */
  stage: Stage
  /** Our module for it: follows the source. */
  moduleStage: Stage
  /** Its packages' files, to be laid over the root (VBLK_OVERLAY of script/in-root). */
  tree: string
  image: string
  initrd: string
  /** A disk with vhost_blk.ko and the modules' index. */
  moduleImage: string
  /** How many times longer than with the lab's own kernel things may take. */
  slowness: number
  /** Like `6.1.0-50-cloud-amd64`; once the stage is made. */
  release: () => string
}

/** The archive has no such kernel (any more); the message says so in one line. */
export class KernelUnavailable extends Error {
  override name = 'KernelUnavailable'
}

const kernelsDir = join(cache, 'kernels')

function hostKernel(
  name: string,
  stage: Pick<Stage, 'title' | 'needs' | 'inputs' | 'key'>,
  make: (dir: string) => Promise<void>,
  slowness = 1,
) {
  const dir = join(kernelsDir, name)
  const tree = join(dir, 'tree')
  const release = () => {
    const folder = join(tree, 'usr/lib/modules')
    const releases = existsSync(folder) ? readdirSync(folder) : []
    if (releases.length !== 1) throw new Error(`${folder} holds ${releases.length} kernels instead of one`)
    return releases[0] as string
  }
  const kernel: HostKernel = {
    tree,
    slowness,
    release,
    image: join(dir, 'vmlinuz'),
    initrd: join(dir, 'initrd'),
    moduleImage: join(dir, 'modules.img'),
    stage: {
      name: `kernel-${name}`,
      title: stage.title,
      needs: [rootStage, ...(stage.needs ?? [])],
      inputs: ['test/lab/machine/initrd-init', ...(stage.inputs ?? [])],
      ...(stage.key ? { key: stage.key } : {}),
      outputs: [join(dir, 'vmlinuz'), join(dir, 'initrd'), tree],
      async make() {
        await make(dir)
        // Packages from before the merge of /lib and /usr/lib would shadow the root's whole /lib.
        if (existsSync(join(tree, 'lib'))) {
          await mkdir(join(tree, 'usr/lib'), { recursive: true })
          await rename(join(tree, 'lib/modules'), join(tree, 'usr/lib/modules'))
          await rm(join(tree, 'lib'), { recursive: true })
        }
        await makeBootable(kernel)
      },
    },
    moduleStage: {
      name: `module-${name}`,
      title: `the kernel module for ${name}`,
      inputs: ['kmod', 'test/lab/setup/kernels.ts'],
      outputs: [join(dir, 'modules.img')],
      make: () => makeModule(kernel, dir),
    },
  }
  kernel.moduleStage.needs = [kernel.stage]
  return kernel
}

/** The image and an initramfs that puts the kernel's modules onto L1's disk. */
async function makeBootable(kernel: HostKernel): Promise<void> {
  const kver = kernel.release()
  const modules = join(kernel.tree, 'usr/lib/modules', kver)
  const images = [join(kernel.tree, 'boot', `vmlinuz-${kver}`), join(modules, 'vmlinuz')]
  const image = images.find((path) => existsSync(path))
  if (!image) throw new Error(`kernel ${kver} came without an image: none of ${images.join(', ')}`)
  await copyFile(image, kernel.image)
  await chmod(kernel.image, 0o644)
  await runInRoot(['depmod', '-b', join(kernel.tree, 'usr'), kver])
  await writeInitramfs(kernel.initrd, {
    init: join(top, 'test/lab/machine/initrd-init'),
    programs: [join(root, 'bin/busybox')],
    modules: await bootModules(modules),
    directories: ['dev', 'root'],
    trees: { [`modules/${kver}`]: modules },
  })
}

/** What must be loaded to reach L1's disk, numbered in the order of loading; nothing of it may be in this kernel's modules. */
async function bootModules(modules: string): Promise<Record<string, string>> {
  const needs = new Map<string, string[]>()
  for (const line of (await readFile(join(modules, 'modules.dep'), 'utf8')).split('\n')) {
    const [path = '', rest = ''] = line.split(':')
    needs.set(path, rest.split(' ').filter(Boolean))
  }
  const paths = new Set<string>()
  for (const wanted of ['virtio_pci', 'virtio_blk', 'ext4']) {
    const path = [...needs.keys()].find((one) => basename(one).split('.')[0] === wanted)
    if (!path) continue
    // modules.dep names the last one to load first.
    for (const need of needs.get(path)?.toReversed() ?? []) paths.add(need)
    paths.add(path)
  }
  const numbered = [...paths].map((path, i) => [`${i}-${basename(path).split('.')[0]}.ko`, join(modules, path)])
  return Object.fromEntries(numbered)
}

async function makeModule(kernel: HostKernel, dir: string): Promise<void> {
  const kver = kernel.release()
  const out = join(dir, 'kmod')
  await rm(out, { recursive: true, force: true })
  await mkdir(out)
  // The compiler is the root's: a module need not be built by the very one that built the kernel.
  await runInRoot(['make', '-C', join(top, 'kmod'), `KVER=${kver}`, `O=${out}`, 'CC=gcc'], {
    env: { VBLK_OVERLAY: kernel.tree },
  })
  const module = join(out, 'vhost_blk.ko')
  const keys = signingKeys(dir)
  if (existsSync(keys)) await runInRoot([join(top, 'kmod/sign'), module, keys], { env: { KDIR: join(dir, 'build') } })
  const index = await indexModules(kernel.tree, kver, module, join(dir, 'index'))
  const next = `${kernel.moduleImage}.new`
  await rm(next, { force: true })
  // A fixed size, as the project's disk: a warm start exchanges the content.
  await run('mke2fs', ['-q', '-t', 'ext4', '-O', '^has_journal', '-d', index, next, '64M'])
  await rename(next, kernel.moduleImage)
}

/** A release's newest cloud kernel, from the first of these suites that has one of that version. */
const packaged = (name: string, version: RegExp, suites: string[]): HostKernel =>
  hostKernel(
    name,
    { title: `kernel ${name} and its headers`, inputs: ['test/lab/setup/kernels.ts'], key: () => suites.join() },
    async (dir) => {
      for (const suite of suites) {
        const archive = await openArchive(suite, join(kernelsDir, 'apt', suite))
        if (!version.test((await archive?.version('linux-image-cloud-amd64')) ?? '')) continue
        const names = await archive?.closure(
          ['linux-image-cloud-amd64', 'linux-headers-cloud-amd64'],
          /^linux-(base-\d|(image|binary|modules|headers|kbuild)-)/,
        )
        const debs = join(dir, 'debs')
        for (const old of [debs, join(dir, 'tree')]) await rm(old, { recursive: true, force: true })
        for (const deb of (await archive?.download(names ?? [], debs)) ?? [])
          await run('dpkg-deb', ['--extract', deb, join(dir, 'tree')])
        await rm(debs, { recursive: true })
        return
      }
      throw new KernelUnavailable(`the Debian archive has no kernel ${name} today (looked in ${suites.join(' and ')})`)
    },
  )

/** Debian's own source, built with everything that finds faults. */
const checking = (name: string): HostKernel =>
  hostKernel(
    name,
    {
      title: `a kernel with ${name.toUpperCase()} (may take half an hour)`,
      needs: [sourceStage],
      inputs: ['test/lab/setup/debug-kernel.ts', 'fixtures/lab/debug.config', `fixtures/lab/${name}.config`],
    },
    (dir) => makeDebugKernel(name, dir),
    // Twice as slow where a processor is free for it.
    6,
  )

export const hostKernels: Record<string, HostKernel> = {
  '6.1': packaged('6.1', /^6\.1\./, ['bookworm']),
  '7': packaged('7', /^7\./, ['trixie-backports', 'sid']),
  kasan: checking('kasan'),
  kcsan: checking('kcsan'),
}
