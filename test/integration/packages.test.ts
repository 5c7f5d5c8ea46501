// SPDX-License-Identifier: GPL-2.0-or-later
// The two packages, made, installed, used and removed as a user does it, in the lab's Debian root.
import { execFileSync } from 'node:child_process'
import { cp, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals'
import { builtObject, inRoot, linesOf } from '../device/root-qemu.ts'
import { top } from '../lab/setup/paths.ts'
import { kernelRelease } from '../lab/setup/stages.ts'
import { makeFolder, Qemu, removeFolder } from './qemu.ts'

jest.setTimeout(300_000)

const quiet = { cwd: top, encoding: 'utf8' as const, stdio: ['ignore', 'pipe', 'pipe'] as ['ignore', 'pipe', 'pipe'] }

let dir: string
let qemu: Qemu
let version: string
/** What `npm pack` has made. */
let tarball: string

/** Packing builds everything anew, which other tests are using meanwhile. */
async function copyOfTree(tree: string): Promise<string> {
  const left = new Set(['.git', '.cache', 'dist', 'kmod/build', 'node_modules'].map((name) => join(top, name)))
  await cp(top, tree, { recursive: true, filter: (path) => !left.has(path) })
  await symlink(join(top, 'node_modules'), join(tree, 'node_modules'))
  return tree
}

beforeAll(async () => {
  dir = await makeFolder()
  qemu = await Qemu.start(dir, 'vm')
  version = JSON.parse(await readFile(join(top, 'package.json'), 'utf8')).version
  const tree = await copyOfTree(join(dir, 'tree'))
  const pack = ['pack', '--json', '--pack-destination', dir]
  const [packed] = JSON.parse(execFileSync('npm', pack, { ...quiet, cwd: tree }))
  tarball = join(dir, packed.filename)
}, 180_000)
afterAll(async () => {
  await qemu?.stop()
  await removeFolder(dir)
})

describe('the npm package', () => {
  const program = () => join(dir, 'npm/bin/vblk')

  test('installs without network or compiler, and brings no other package along', async () => {
    const install = ['install', '--global', '--offline', '--no-audit', '--prefix', join(dir, 'npm')]
    execFileSync('npm', [...install, tarball], quiet)
    expect(await readdir(join(dir, 'npm/lib/node_modules'))).toEqual(['vblk'])
    expect(await readdir(join(dir, 'npm/lib/node_modules/vblk'))).not.toContain('node_modules')
  })

  test("runs on Debian's Node: version, help, and a live VM", async () => {
    const node = (await inRoot(['node', '--version'])).stdout.trim()
    expect(await inRoot([program(), '--version'])).toEqual({
      exitCode: 0,
      stdout: `vblk/${version} linux-${process.arch} node-${node}\n`,
      stderr: '',
    })
    const help = await inRoot([program(), '--help'])
    expect(help.stdout).toMatch(/^ {2}attach {2,}give a running VM a disk that the host kernel serves$/m)
    const attach = await inRoot([program(), 'help', 'attach'])
    expect(attach.stdout).toContain('--datapath')
    expect(await inRoot([program(), 'help', 'atach'])).toEqual({
      exitCode: 2,
      stdout: '',
      stderr: 'Error: no such command: atach\nHint: did you mean: vblk attach\n',
    })
    const list = await inRoot([program(), 'list', qemu.socket, '--json'])
    expect({ ...list, stdout: JSON.parse(list.stdout) }).toMatchObject({
      exitCode: 0,
      stdout: { ok: true, result: { disks: [] } },
      stderr: '',
    })
  })

  test('locks and passes descriptors: its addon is there', async () => {
    const image = join(dir, 'disk.raw')
    await writeFile(image, Buffer.alloc(1 << 20))
    const attach = ['attach', qemu.socket, image, '--id', 'd', '--datapath', 'userspace', '--json']
    const { stdout } = await inRoot([program(), ...attach])
    expect(JSON.parse(stdout)).toMatchObject({ ok: true, result: { id: 'd', changed: true } })
  })

  test('is a library: vblk/qmp', async () => {
    const script = join(dir, 'npm/lib/ask.mjs')
    const ask = `import { QmpClient } from 'vblk/qmp'
const client = await QmpClient.connect({ path: process.argv[2] })
console.log(JSON.stringify(await client.execute('query-status')))
await client.close()`
    await writeFile(script, ask)
    const { stdout, stderr } = await inRoot(['node', script, qemu.socket])
    expect(stderr).toBe('')
    expect(JSON.parse(stdout)).toMatchObject({ status: 'running' })
  })
})

/** What one dpkg run after another does to a root that is thrown away at the end. The files that it writes are the outcome. */
const dpkgStory = `
package=$1 out=$2
list() {
  find / -xdev \\( -path /tmp -o -path /proc -o -path /sys -o -path /run -o -path /dev -o -path "$3" \\) -prune -o -print | sort
}
list "$@" >"$out/before"
dpkg -i --path-include='/usr/share/man/*' --path-include='/usr/share/doc/*' "$package" >"$out/install" 2>&1
dpkg -V vblk >"$out/verify"
dkms status >"$out/dkms"
vblk device status --json >"$out/device"
vblk module status >"$out/module"
vblk list "$4" >"$out/list"
udevadm verify /usr/lib/udev/rules.d/60-vhost-blk.rules >"$out/udev"
list "$@" | comm -13 "$out/before" - >"$out/added"
mkdir -p /root/next/usr/bin /root/next/DEBIAN
# Another program with a build id of its own, as an upgrade brings it.
cp /usr/bin/qemu-img /root/next/usr/bin/qemu-system-x86_64
printf '%s\\n' 'Package: qemu-next' 'Version: 1' 'Architecture: all' 'Maintainer: nobody <nobody@localhost>' \\
  'Replaces: qemu-system-x86' 'Description: the next QEMU' >/root/next/DEBIAN/control
dpkg-deb --build /root/next /root/next.deb >/dev/null
dpkg -i /root/next.deb >"$out/upgrade" 2>&1
mkdir -p /var/lib/vblk/native
dpkg -r vblk >"$out/remove" 2>&1
dkms status >"$out/dkms-after"
test -d /var/lib/vblk/native
dpkg -P vblk >"$out/purge" 2>&1
list "$@" | comm -13 "$out/before" - >"$out/left"
`

describe('the Debian package', () => {
  const outcome = (name: string) => readFile(join(dir, 'deb', name), 'utf8')

  beforeAll(async () => {
    const out = join(dir, 'deb')
    await mkdir(out)
    await mkdir(join(dir, 'nothing'))
    const made = ['--out', dir, '--devices', dirname(dirname(await builtObject())), '--tarball', tarball]
    const file = execFileSync(join(top, 'script/package-deb'), made, quiet).trim()
    try {
      // An overlay of nothing: the root itself stays as it is.
      execFileSync(join(top, 'script/in-root'), ['sh', '-euc', dpkgStory, 'sh', file, out, top, qemu.socket], {
        ...quiet,
        env: { ...process.env, VBLK_OVERLAY: join(dir, 'nothing') },
      })
    } catch (error) {
      const logs = await Promise.all(
        ['install', 'upgrade', 'remove', 'purge'].map((name) => outcome(name).catch(() => '')),
      )
      throw new Error(`${(error as Error).message}\n${logs.join('')}`)
    }
  })

  test('puts each thing where Debian wants it', async () => {
    expect(await outcome('verify')).toBe('')
    const added = linesOf(await outcome('added'))
    const device = basename(dirname(await builtObject()))
    for (const path of [
      '/usr/bin/vblk',
      '/usr/lib/udev/rules.d/60-vhost-blk.rules',
      `/usr/lib/vblk/device/${device}/vhost-blk.so`,
      '/usr/lib/vblk/native/qemu/build',
      '/usr/share/bash-completion/completions/vblk',
      '/usr/share/doc/vblk/copyright',
      '/usr/share/fish/vendor_completions.d/vblk.fish',
      '/usr/share/man/man1/vblk.1.gz',
      '/usr/share/zsh/vendor-completions/_vblk',
      '/usr/src/vhost-blk-0.1.0/dkms.conf',
    ]) {
      expect(added).toContain(path)
    }
    expect(await outcome('udev')).toContain('Success: 1')
  })

  test("builds the module by DKMS, and finds its source and QEMU's device", async () => {
    expect(await outcome('dkms')).toContain(`vhost-blk/0.1.0, ${kernelRelease()}, `)
    expect(await outcome('dkms')).toContain(': installed')
    expect(await outcome('module')).toMatch(/^source +\/usr\/lib\/vblk\/kmod$/m)
    expect(JSON.parse(await outcome('device')).result.object).toMatch(
      /^\/usr\/lib\/vblk\/device\/[0-9a-f]{40}\/vhost-blk\.so$/,
    )
    expect(await outcome('list')).toContain('idle (vhost=off)')
  })

  test('warns when QEMU becomes another one, for which there is no device', async () => {
    expect(await outcome('install')).not.toContain('there is no vhost-blk device')
    expect(await outcome('upgrade')).toContain(
      'vblk: there is no vhost-blk device for this /usr/bin/qemu-system-x86_64; ' +
        'before VMs are started again: vblk device build /usr/bin/qemu-system-x86_64\n',
    )
  })

  test('leaves nothing behind', async () => {
    expect(await outcome('dkms-after')).toBe('')
    const left = linesOf(await outcome('left')).filter((path) => !path.includes('/qemu-next'))
    // DKMS keeps the key that it has made for all that it builds.
    expect(left.filter((path) => !/^\/root\/next|^\/var\/(log|lib\/dkms\/mok\.)/.test(path))).toEqual([])
  })
})
