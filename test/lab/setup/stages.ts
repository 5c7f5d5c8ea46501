// SPDX-License-Identifier: GPL-2.0-or-later
// What the lab is made of, from the Debian root up. Each stage says what it is made from; stage.ts decides what is stale.
import { existsSync, readdirSync } from 'node:fs'
import { chmod, copyFile, cp, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { aptMirror, openArchive } from './apt.ts'
import { writeInitramfs } from './initramfs.ts'
import { cache, labFiles, root, top } from './paths.ts'
import { run, runInRoot } from './run.ts'
import type { Stage } from './stage.ts'

export const release = 'trixie'

/** The release of the kernel that the lab's root carries, like `6.12.107+deb13-cloud-amd64`. */
export function kernelRelease(): string {
  const releases = existsSync(join(root, 'lib/modules')) ? readdirSync(join(root, 'lib/modules')) : []
  if (releases.length !== 1) throw new Error(`${root}/lib/modules holds ${releases.length} kernels instead of one`)
  return releases[0] as string
}

const emptied = async (dir: string) => {
  await rm(dir, { recursive: true, force: true })
  await mkdir(dir, { recursive: true })
  return dir
}

export const rootStage: Stage = {
  name: 'root',
  title: `Debian ${release} with kernel, QEMU and compiler`,
  inputs: ['fixtures/lab/root.packages'],
  key: () => release,
  outputs: [join(root, 'usr/bin/env')],
  async make() {
    const list = await readFile(join(top, 'fixtures/lab/root.packages'), 'utf8')
    const packages = list.split('\n').filter((line) => line && !line.startsWith('#'))
    const mirror = await aptMirror()
    const next = `${root}.new`
    await rm(next, { recursive: true, force: true })
    const without = ['doc', 'man', 'locale', 'info'].map((dir) => `--dpkgopt=path-exclude=/usr/share/${dir}/*`)
    // in a mount namespace of its own: killed at any moment, it leaves nothing mounted that the next attempt can't remove
    await run('unshare', [
      '--mount',
      'mmdebstrap',
      '--variant=minbase',
      `--include=${packages.join(',')}`,
      '--aptopt=Acquire::Languages "none"',
      ...without,
      release,
      next,
      `deb ${mirror} ${release} main`,
      `deb-src ${mirror} ${release} main`,
    ])
    const old = `${root}.old`
    await rm(old, { recursive: true, force: true })
    if (existsSync(root)) await rename(root, old)
    await rename(next, root)
    await rm(old, { recursive: true, force: true })
  },
}

const labTools = join(labFiles, 'bin')

async function compile(out: string, sources: string[], flags: string[] = []): Promise<void> {
  await mkdir(labTools, { recursive: true })
  const files = sources.map((source) => join(top, source))
  const warnings = ['-Wall', '-Wextra']
  await runInRoot(['gcc', '-O2', '-g', ...warnings, ...flags, '-o', join(labTools, out), ...files, '-lpthread'])
}

export const toolsStage: Stage = {
  name: 'tools',
  title: "the lab's agent and the guests' loads",
  needs: [rootStage],
  inputs: ['test/lab/agent', 'test/guest'],
  outputs: ['agent', 'lab-run', 'vload', 'ioload'].map((name) => join(labTools, name)),
  async make() {
    await compile('agent', ['test/lab/agent/agent.c'], ['-static'])
    await compile('lab-run', ['test/lab/agent/run.c'], ['-static'])
    await compile('vload', ['test/guest/vload.c'], ['-static'])
    await compile('ioload', ['test/guest/ioload.c'], ['-static'])
  },
}

/** Apart from the tools: L1's disk and its saved state don't hold these. */
export const driversStage: Stage = {
  name: 'drivers',
  title: 'the ring driver and its load',
  needs: [rootStage],
  inputs: ['test/kmod/ring', 'test/kmod/bench', 'kmod/uapi'],
  outputs: ['ring', 'ringload'].map((name) => join(labTools, name)),
  async make() {
    const sources = (await readdir(join(top, 'test/kmod/ring'))).filter((name) => name.endsWith('.c'))
    const flags = ['-static', '-I', join(top, 'kmod/uapi')]
    await compile(
      'ring',
      sources.map((name) => `test/kmod/ring/${name}`),
      flags,
    )
    await compile('ringload', ['test/kmod/bench/ringload.c', 'test/kmod/ring/ring.c'], flags)
  },
}

const fuzzer = join(labFiles, 'fuzzer/fuzz')

/** Apart from the lab's own tools: L1's disk is not made from it. */
export const fuzzerStage: Stage = {
  name: 'fuzzer',
  title: "the module's fuzzer",
  needs: [rootStage],
  inputs: ['test/kmod/fuzz', 'test/kmod/ring/ring.c', 'test/kmod/ring/ring.h', 'kmod/uapi'],
  outputs: [fuzzer],
  async make() {
    await emptied(dirname(fuzzer))
    const own = (await readdir(join(top, 'test/kmod/fuzz'))).filter((name) => name.endsWith('.c'))
    const sources = [...own.map((name) => join('test/kmod/fuzz', name)), 'test/kmod/ring/ring.c']
    const args = ['gcc', '-static', '-O2', '-g', '-Wall', '-Wextra', '-I', join(top, 'kmod/uapi'), '-o', fuzzer]
    await runInRoot([...args, ...sources.map((source) => join(top, source)), '-lpthread'])
  },
}

const kmodDir = join(cache, 'kmod')

export const kmodStage: Stage = {
  name: 'kmod',
  title: 'the kernel module',
  needs: [rootStage],
  inputs: ['kmod'],
  outputs: [kmodDir],
  async make() {
    const kver = kernelRelease()
    const out = await emptied(join(kmodDir, kver))
    await runInRoot(['make', '-C', join(top, 'kmod'), `KVER=${kver}`, `O=${out}`])
  },
}

const deviceDir = join(cache, 'native')

export const deviceStage: Stage = {
  name: 'device',
  title: 'the device for QEMU (fetches the headers of its source)',
  needs: [rootStage],
  inputs: ['native/qemu', 'kmod/uapi'],
  outputs: [deviceDir],
  make: async () => {
    await runInRoot([join(top, 'native/qemu/build'), '--qemu', '/usr/bin/qemu-system-x86_64', '--out', deviceDir])
  },
}

/** Compiles a plugin of the QEMU that emulates L1, by the headers of that very QEMU, which the device's build has fetched. */
async function compilePlugin(source: string, output: string): Promise<void> {
  const [build = ''] = await readdir(deviceDir)
  const flags = (await runInRoot(['pkg-config', '--cflags', 'glib-2.0'])).trim().split(' ')
  const headers = join(`${deviceDir}.headers`, build)
  const folders = ['', 'generated', 'include', 'include/qemu', 'host/include/x86_64', 'host/include/generic']
  const includes = folders.flatMap((folder) => ['-I', join(headers, folder)])
  const warnings = ['-Wall', '-Wextra', '-Wno-unused-parameter', '-Wno-sign-compare', '-Wno-missing-field-initializers']
  const options = ['-shared', '-fPIC', '-O2', '-g', '-std=gnu11', '-D_GNU_SOURCE', ...warnings, ...flags, ...includes]
  await runInRoot(['gcc', ...options, '-o', output, join(top, source)])
}

/** Counts instructions; see test/bench/profile/. */
export const countPlugin = join(labFiles, 'count.so')

export const countStage: Stage = {
  name: 'count',
  title: 'the instruction counter',
  needs: [deviceStage],
  inputs: ['test/bench/profile/count.c'],
  outputs: [countPlugin],
  make: () => compilePlugin('test/bench/profile/count.c', countPlugin),
}

/** Without it guests get an interrupt twice now and then. */
export const interruptOncePlugin = join(labFiles, 'interrupt-once.so')

export const interruptOnceStage: Stage = {
  name: 'interrupt-once',
  title: "a mend of the emulator's",
  needs: [deviceStage],
  inputs: ['test/lab/emulator/interrupt-once.c'],
  outputs: [interruptOncePlugin],
  make: () => compilePlugin('test/lab/emulator/interrupt-once.c', interruptOncePlugin),
}

const fdDir = join(cache, 'fd')

export const fdStage: Stage = {
  name: 'fd',
  title: 'the descriptor addon',
  inputs: ['native/fd', 'node_modules/node-api-headers/package.json'],
  outputs: [join(fdDir, 'vblk_fd.node')],
  make: async () => {
    await run(join(top, 'native/fd/build'), [fdDir])
  },
}

export const distStage: Stage = {
  name: 'dist',
  title: 'the command line tool',
  inputs: [
    ...['src', 'bin', 'script/bundle.ts', 'script/bundle-url.js', 'script/man.ts'],
    ...['package.json', 'tsconfig.json', 'tsconfig.build.json', 'package-lock.json'],
  ],
  outputs: [join(top, 'dist'), join(top, 'oclif.manifest.json')],
  async make() {
    await rm(join(top, 'dist'), { recursive: true, force: true })
    await rm(join(top, 'oclif.manifest.json'), { force: true })
    await run(process.execPath, [join(top, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json'])
    await run(process.execPath, [join(top, 'node_modules/oclif/bin/run.js'), 'manifest'])
    await run(process.execPath, ['--import', 'tsx', join(top, 'script/bundle.ts')])
    await run(process.execPath, ['--import', 'tsx', join(top, 'script/man.ts')])
  },
}

export const initrd = join(labFiles, 'initrd')
export const kernel = join(labFiles, 'vmlinuz')

export const initrdStage: Stage = {
  name: 'initrd',
  title: "L1's kernel and initramfs",
  needs: [rootStage],
  inputs: ['test/lab/machine/initrd-init', 'test/lab/setup/initramfs.ts'],
  outputs: [initrd, kernel],
  async make() {
    const kver = kernelRelease()
    const modules = join(root, 'lib/modules', kver, 'kernel')
    await copyFile(join(root, 'boot', `vmlinuz-${kver}`), kernel)
    await chmod(kernel, 0o644)
    await writeInitramfs(initrd, {
      init: join(top, 'test/lab/machine/initrd-init'),
      programs: [join(root, 'bin/busybox')],
      modules: { 'virtio_blk.ko': join(modules, 'drivers/block/virtio_blk.ko.xz') },
      directories: ['dev', 'root'],
    })
  },
}

const guestDir = join(labFiles, 'guest')

export const guestStage: Stage = {
  name: 'guest',
  title: "the guests' kernel and initramfs",
  needs: [rootStage, toolsStage],
  inputs: ['test/lab/machine/guest-init', 'test/lab/setup/initramfs.ts'],
  outputs: [join(guestDir, 'initrd'), join(guestDir, 'vmlinuz')],
  async make() {
    const kver = kernelRelease()
    const modules = join(root, 'lib/modules', kver, 'kernel')
    await emptied(guestDir)
    await copyFile(join(root, 'boot', `vmlinuz-${kver}`), join(guestDir, 'vmlinuz'))
    await writeInitramfs(join(guestDir, 'initrd'), {
      init: join(top, 'test/lab/machine/guest-init'),
      programs: [
        join(root, 'bin/busybox'),
        join(root, 'usr/sbin/qemu-ga'),
        join(labTools, 'agent'),
        join(labTools, 'vload'),
        join(labTools, 'ioload'),
      ],
      modules: { 'lib/modules/virtio_blk.ko': join(modules, 'drivers/block/virtio_blk.ko.xz') },
      directories: ['dev', 'proc', 'sys', 'bin', 'run', 'tmp'],
      libraryRoot: root,
    })
  },
}

export const machineImage = join(labFiles, 'machine.img')

export const machineStage: Stage = {
  name: 'machine',
  title: "L1's disk",
  needs: [rootStage, toolsStage],
  inputs: ['test/lab/machine/init'],
  outputs: [machineImage],
  async make() {
    const own = await emptied(join(root, 'usr/lib/vblk-lab'))
    await copyFile(join(top, 'test/lab/machine/init'), join(own, 'init'))
    await chmod(join(own, 'init'), 0o755)
    await copyFile(join(labTools, 'agent'), join(own, 'agent'))
    await mkdir(join(root, 'opt/vblk'), { recursive: true })
    const links: [string, string][] = [
      ['/opt/vblk/bin/run.js', 'usr/local/bin/vblk'],
      ['/opt/vblk/lab/bin/lab-run', 'usr/local/bin/lab-run'],
    ]
    for (const [target, link] of links) {
      await rm(join(root, link), { force: true })
      await symlink(target, join(root, link))
    }
    const next = `${machineImage}.new`
    await rm(next, { force: true })
    await run('mke2fs', ['-q', '-t', 'ext4', '-O', '^has_journal', '-d', root, next, '3G'])
    await rename(next, machineImage)
  },
}

export const projectImage = join(labFiles, 'project.img')

export const projectStage: Stage = {
  name: 'project',
  title: "the project, installed as on a user's host",
  needs: [machineStage, toolsStage, driversStage, fuzzerStage, kmodStage, deviceStage, fdStage, distStage, guestStage],
  inputs: ['test/lab/machine/install', 'test/lab/setup/compile-commands'],
  outputs: [projectImage],
  async make() {
    const kver = kernelRelease()
    const tree = await emptied(join(labFiles, 'project'))
    const copy = (from: string, to: string) => cp(from, join(tree, to), { recursive: true })
    for (const name of ['bin', 'dist', 'kmod', 'package.json', 'oclif.manifest.json']) await copy(join(top, name), name)
    await copy(join(fdDir, 'vblk_fd.node'), 'native/fd/vblk_fd.node')
    await copy(deviceDir, 'native/qemu/objects')
    const [build = ''] = await readdir(deviceDir)
    const object = join(deviceDir, build, 'vhost-blk.so')
    await runInRoot([join(top, 'test/lab/setup/compile-commands'), join(tree, 'bin/run.js'), object])
    await copy(guestDir, 'guest')
    await copy(labTools, 'lab/bin')
    await copy(fuzzer, 'lab/bin/fuzz')
    await copy(join(top, 'test/lab/machine/install'), 'lab/install')
    await chmod(join(tree, 'lab/install'), 0o755)
    const index = join(labFiles, 'modules')
    await copy(await indexModules(root, kver, join(kmodDir, kver, 'vhost_blk.ko'), index), 'lab/modules')
    const next = `${projectImage}.new`
    await rm(next, { force: true })
    // A fixed size: a warm start exchanges the content under a disk whose size the saved machine knows.
    await run('mke2fs', ['-q', '-t', 'ext4', '-O', '^has_journal', '-d', tree, next, '384M'])
    await rename(next, projectImage)
  },
}

/**
 * What depmod makes of a kernel's own modules and ours together, so that L1 needn't run it at every start.
 *
 * @param from the root in which the kernel's packages are
 * @param base a folder to make it in
 * @returns the folder with our module, the index and the release's name
 */
export async function indexModules(from: string, kver: string, module: string, base: string): Promise<string> {
  await emptied(base)
  const dir = join(base, 'lib/modules', kver)
  const own = join(from, 'usr/lib/modules', kver)
  await mkdir(join(dir, 'updates'), { recursive: true })
  await symlink(join(own, 'kernel'), join(dir, 'kernel'))
  for (const name of await readdir(own))
    if (/^modules\.(order|builtin)/.test(name)) await copyFile(join(own, name), join(dir, name))
  await copyFile(module, join(dir, 'updates/vhost_blk.ko'))
  await runInRoot(['depmod', '-b', base, kver])
  await rm(join(dir, 'kernel'))
  await writeFile(join(dir, 'release'), `${kver}\n`)
  return dir
}

/** A disk with what two labs need to reach each other, beside the root's own packages. */
export const sshImage = join(labFiles, 'ssh.img')

export const sshStage: Stage = {
  name: 'ssh',
  title: 'ssh for two labs',
  needs: [rootStage],
  outputs: [sshImage],
  async make() {
    const dir = join(labFiles, 'ssh')
    const archive = await openArchive(release, join(await emptied(dir), 'apt'))
    if (!archive) throw new Error(`the Debian archive has no ${release}`)
    const installed = new Set(
      (await readdir(join(root, 'var/lib/dpkg/info'))).map((name) => name.replace(/(:amd64)?\.list$/, '')),
    )
    const wanted = await archive.closure(['openssh-server', 'openssh-client'], /^(openssh-(server|client)$|lib)/)
    const missing = wanted.filter((name) => !installed.has(name))
    const tree = join(dir, 'tree')
    for (const deb of await archive.download(missing, join(dir, 'debs')))
      await run('dpkg-deb', ['--extract', deb, tree])
    for (const name of ['doc', 'man', 'lintian', 'locale'])
      await rm(join(tree, 'usr/share', name), { recursive: true, force: true })
    const next = `${sshImage}.new`
    await rm(next, { force: true })
    await run('mke2fs', ['-q', '-t', 'ext4', '-O', '^has_journal', '-d', tree, next, '48M'])
    await rename(next, sshImage)
    await rm(dir, { recursive: true })
  },
}

/** All that `script/lab`, the demo and the tests stand on. */
export const everything: Stage[] = [projectStage, initrdStage, countStage, interruptOnceStage, sshStage]
