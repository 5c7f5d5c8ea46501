// SPDX-License-Identifier: GPL-2.0-or-later
import { chmod, copyFile, cp, mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { execa } from 'execa'
import { root, top } from './paths.ts'
import { run, runInRoot } from './run.ts'

interface Contents {
  /** Becomes /init. */
  init: string
  /** Go to /bin, with the shared libraries that they need if `libraryRoot` is given. */
  programs: string[]
  /** Path in the archive → module, stored expanded if it is compressed (.ko.xz): busybox's insmod reads no xz. */
  modules: Record<string, string>
  /** Path in the archive → folder to copy. */
  trees?: Record<string, string>
  directories: string[]
  libraryRoot?: string
}

/** Writes an initramfs: a gzip-compressed cpio archive in the "newc" format (Documentation/driver-api/early-userspace). */
export async function writeInitramfs(out: string, contents: Contents): Promise<void> {
  const tree = await mkdtemp(join(tmpdir(), 'vblk-initramfs-'))
  try {
    const put = async (from: string, to: string, mode = 0o755) => {
      await mkdir(dirname(join(tree, to)), { recursive: true })
      await copyFile(from, join(tree, to))
      await chmod(join(tree, to), mode)
    }
    for (const dir of contents.directories) await mkdir(join(tree, dir), { recursive: true })
    await put(contents.init, 'init')
    for (const program of contents.programs) {
      await put(program, join('bin', basename(program)))
      if (contents.libraryRoot)
        for (const library of await sharedLibraries(program)) await put(await realpath(join(root, library)), library)
    }
    for (const [to, from] of Object.entries(contents.modules)) {
      if (!from.endsWith('.xz')) {
        await put(from, to, 0o644)
        continue
      }
      const { stdout } = await execa('xz', ['--decompress', '--stdout', from], { encoding: 'buffer' })
      await mkdir(dirname(join(tree, to)), { recursive: true })
      await writeFile(join(tree, to), stdout)
    }
    for (const [to, from] of Object.entries(contents.trees ?? {}))
      await cp(from, join(tree, to), { recursive: true, verbatimSymlinks: true })
    await mkdir(dirname(out), { recursive: true })
    await pack(tree, out)
  } finally {
    await rm(tree, { recursive: true, force: true })
  }
}

/** Paths inside the root of the libraries that a program of it loads, the loader included; none if it is static. */
async function sharedLibraries(program: string): Promise<string[]> {
  if (!program.startsWith(`${root}/`)) return []
  const listing = await runInRoot(['ldd', program.slice(root.length)]).catch(() => '')
  return [...listing.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] as string)
}

async function pack(tree: string, out: string): Promise<void> {
  const names = await run('find', ['.', '-mindepth', '1'], { cwd: tree })
  const cpio = ['cpio', '--create', '--format=newc', '--owner=0:0', '--quiet', `--directory=${tree}`]
  const options = { encoding: 'buffer', maxBuffer: 2 ** 30 } as const
  const archive = await execa(join(top, 'script/in-root'), cpio, { ...options, input: `${names}\n` })
  const { stdout } = await execa('gzip', ['-1', '--stdout'], { ...options, input: archive.stdout })
  await writeFile(out, stdout)
}
