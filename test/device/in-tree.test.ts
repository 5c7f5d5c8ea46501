// SPDX-License-Identifier: GPL-2.0-or-later
// The device as a part of QEMU's source tree, built by QEMU's own build system.
import { cp, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, jest, test } from '@jest/globals'
import { top } from '../lab/setup/paths.ts'
import { askQemu, inRoot } from './root-qemu.ts'

jest.setTimeout(3_600_000)

const device = join(top, 'native/qemu')
/** The sources that both builds have. */
const shared = (await readdir(device)).filter((name) => name.endsWith('.c') && !name.startsWith('plugin')).sort()

test('has every source of the plugin in its list', async () => {
  const list = await readFile(join(device, 'in-tree/meson.build'), 'utf8')
  const named = [...list.matchAll(/'(\S+\.c)'/g)].map(([, name]) => name)
  expect(named.sort()).toEqual([...shared, 'register.c'].sort())
})

test('refuses a folder that is no QEMU source', async () => {
  const { exitCode, stderr } = await inRoot([join(device, 'in-tree/install'), '/etc'])
  expect({ exitCode, stderr }).toEqual({ exitCode: 2, stderr: 'usage: install SOURCE, an unpacked QEMU source tree\n' })
})

const long = process.env.VBLK_LONG ? test : test.skip

/** Where the distribution keeps the firmware that a QEMU from its own build folder does not find. */
const firmware = ['-L', '/usr/share/seabios', '-L', '/usr/share/qemu']

long('is a part of the QEMU that is built there, without a warning, twice put in or once', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'vblk-in-tree-'))
  try {
    const minutes = 50
    const run = async (script: string, ...args: string[]) => {
      const result = await inRoot(['sh', '-euc', script, 'sh', ...args], '', minutes * 60_000)
      if (result.exitCode !== 0) throw new Error(`${script}: ${result.stdout.slice(-3000)}${result.stderr}`)
      return result.stdout
    }
    await mkdir(join(dir, 'fetched'))
    const fetch = join(device, 'fetch-source')
    const source = (await run('"$1" /usr/bin/qemu-system-x86_64 "$2"', fetch, join(dir, 'fetched'))).trim()
    const tree = join(dir, 'tree')
    await cp(source, tree, { recursive: true, verbatimSymlinks: true })
    const install = join(device, 'in-tree/install')
    const lines = await run(
      '"$1" "$2"; "$1" "$2"; cd "$2"; grep -c vhost-blk meson.build hw/block/meson.build hw/block/Kconfig',
      install,
      tree,
    )
    expect(lines).toBe('meson.build:1\nhw/block/meson.build:1\nhw/block/Kconfig:1\n')
    const objects = await run(
      `mkdir "$1/build"; cd "$1/build"
       ../tree/configure --target-list=x86_64-softmmu --without-default-features --disable-docs --disable-download \\
         --disable-install-blobs --enable-system --enable-kvm --enable-vhost-kernel --enable-fdt=system >configure.log
       ninja -t targets all | sed -n -E 's/^(libqemu[^:]*hw_block_vhost-blk[^:]*\\.o):.*/\\1/p'`,
      dir,
    )
    const names = objects.trim().split('\n')
    expect(names).toHaveLength(shared.length + 1)
    const output = await run('cd "$1"; shift; ninja "$@"', join(dir, 'build'), ...names)
    expect(output.split('\n').filter((line) => /warning|error:/.test(line))).toEqual([])
    await run('cd "$1"; ninja qemu-system-x86_64', join(dir, 'build'))
    const image = join(dir, 'image.raw')
    await run('truncate -s 1M "$1"', image)
    const disk = ['-blockdev', `driver=raw,node-name=raw0,file.driver=file,file.filename=${image}`]
    const args = [...firmware, ...disk, '-device', 'vhost-blk-pci,id=disk,drive=raw0']
    const { replies } = await askQemu(
      args,
      [
        ['qom-get', { path: '/machine/peripheral/disk', property: 'vhost-state' }],
        ['trace-event-get-state', { name: 'vhost_blk_start' }],
      ],
      join(dir, 'build/qemu-system-x86_64'),
      null,
    )
    expect(replies).toMatchObject([
      { return: { active: false, reason: expect.stringContaining('KVM') } },
      { return: [{ name: 'vhost_blk_start', state: 'disabled' }] },
    ])
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
})
