// SPDX-License-Identifier: GPL-2.0-or-later
// The kernel of the lab's release, built from Debian's source with everything that finds faults.
import { existsSync } from 'node:fs'
import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openArchive } from './apt.ts'
import { cache, top } from './paths.ts'
import { run, runInRoot, StepError } from './run.ts'
import type { Stage } from './stage.ts'
import { release } from './stages.ts'

const kernelsDir = join(cache, 'kernels')
export const kernelSource = join(kernelsDir, 'source')
const version = '6.12'

/** Debian's patched source, whole: it also holds checkpatch.pl, which no other package has. */
export const sourceStage: Stage = {
  name: 'kernel-source',
  title: `the source of kernel ${version}`,
  inputs: ['test/lab/setup/debug-kernel.ts'],
  outputs: [join(kernelSource, 'Makefile'), join(kernelSource, 'scripts/checkpatch.pl')],
  async make() {
    const archive = await openArchive(release, join(kernelsDir, 'apt', release))
    if (!archive) throw new StepError(`the Debian archive has no ${release} any more`)
    const debs = join(kernelsDir, 'debs')
    await rm(debs, { recursive: true, force: true })
    const [deb] = await archive.download([`linux-source-${version}`], debs)
    await rm(kernelSource, { recursive: true, force: true })
    await mkdir(kernelSource, { recursive: true })
    const unpack = `dpkg-deb --fsys-tarfile "$1" | tar -xO "./usr/src/linux-source-$2.tar.xz" | xz -T0 -dc | tar -x -C "$3" --strip-components=1`
    await run('bash', ['-o', 'pipefail', '-euc', unpack, 'unpack', deb ?? '', version, kernelSource])
    await rm(debs, { recursive: true })
  },
}

/** Where a kernel's build finds the certificate of the key in dir/keys, if its configuration trusts that. */
const certificate = 'vblk.pem'

/** The folder of the key that this kernel trusts, made before it is built if its configuration says so. */
export const signingKeys = (dir: string): string => join(dir, 'keys')

/** Makes that key once, as kmod/sign does. */
async function makeKey(dir: string): Promise<void> {
  const keys = signingKeys(dir)
  const pem = join(dir, 'build', certificate)
  if (existsSync(pem)) return
  await mkdir(keys, { recursive: true, mode: 0o700 })
  const [key, der] = [join(keys, 'key.pem'), join(keys, 'certificate.der')]
  const request = '-new -x509 -newkey rsa:2048 -nodes -days 3650 -sha256 -addext extendedKeyUsage=codeSigning'.split(
    ' ',
  )
  await runInRoot(['openssl', 'req', ...request, '-subj', '/CN=vblk lab/', '-keyout', key, '-out', pem])
  await runInRoot(['openssl', 'x509', '-in', pem, '-outform', 'DER', '-out', der])
}

/**
 * Builds it into dir/build (kept: a changed option rebuilds only what it touches) and installs it into dir/tree.
 *
 * @throws Error that names the options that the kernel's configuration did not take
 */
export async function makeDebugKernel(variant: string, dir: string): Promise<void> {
  const build = join(dir, 'build')
  const tree = join(dir, 'tree')
  await mkdir(build, { recursive: true })
  const fragments = ['debug', variant].map((name) => readFile(join(top, `fixtures/lab/${name}.config`), 'utf8'))
  const wanted = (await Promise.all(fragments)).join('')
  await writeFile(join(build, 'all.config'), wanted)
  const env = { KCONFIG_ALLCONFIG: join(build, 'all.config'), KBUILD_BUILD_USER: 'vblk', KBUILD_BUILD_HOST: 'lab' }
  const make = (...args: string[]) =>
    runInRoot(['nice', '-n', '5', 'make', '-s', '-C', kernelSource, `O=${build}`, ...args], { env })

  if (wanted.includes(`"${certificate}"`)) await makeKey(dir)
  await make('allnoconfig')
  const config = await readFile(join(build, '.config'), 'utf8')
  const missed = wanted.split('\n').filter((line) => line.startsWith('CONFIG_') && !isMet(line, config))
  if (missed.length) throw new Error(`the kernel's configuration does not take: ${missed.join(' ')}`)

  await make('-j2', 'bzImage', 'modules')
  await rm(tree, { recursive: true, force: true })
  await make(`INSTALL_MOD_PATH=${tree}`, 'INSTALL_MOD_STRIP=1', 'modules_install')
  const kver = (await readFile(join(build, 'include/config/kernel.release'), 'utf8')).trim()
  await mkdir(join(tree, 'boot'))
  await copyFile(join(build, 'arch/x86/boot/bzImage'), join(tree, 'boot', `vmlinuz-${kver}`))
  if (!existsSync(join(build, 'vmlinux'))) throw new Error(`the build left no vmlinux in ${build}`)
}

function isMet(line: string, config: string): boolean {
  const [option, value] = line.split(/=(.*)/)
  return value === 'n' ? !config.includes(`\n${option}=`) : config.includes(`\n${line}\n`)
}
