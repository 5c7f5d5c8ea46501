// SPDX-License-Identifier: GPL-2.0-or-later
// What each command says, as text and as JSON, when it does its work and when it can't: on a real QEMU, and where there is
// no module.

import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals'
import { execa } from 'execa'
import { root, top } from '../lab/setup/paths.ts'
import { program } from './program.ts'
import { makeFolder, makeImage, Qemu, removeFolder, vblk } from './qemu.ts'

jest.setTimeout(60_000)

let dir: string
let qemu: Qemu
const environment = { config: process.env.VBLK_CONFIG_DIR, state: process.env.VBLK_STATE_DIR }

beforeAll(async () => {
  dir = await makeFolder()
  process.env.VBLK_CONFIG_DIR = join(dir, 'config')
  process.env.VBLK_STATE_DIR = join(dir, 'state')
  qemu = await Qemu.start(dir, 'vm', { hotplug: 'native' })
  await makeImage(join(dir, 'disk.raw'))
  await writeFile(join(dir, 'disks.yaml'), 'vm: web\ndisks: [{id: data, file: disk.raw, datapath: userspace}]\n')
})
afterAll(async () => {
  await qemu?.stop()
  await removeFolder(dir)
  for (const [name, value] of [
    ['VBLK_CONFIG_DIR', environment.config],
    ['VBLK_STATE_DIR', environment.state],
  ] as const) {
    if (value === undefined) delete process.env[name]
    else process.env[name] = value
  }
})

/** In command lines and texts `DIR` stands for the test's folder, `ROOT` for the lab's Debian root. */
const words = (line: string) => line.split(' ').map((word) => word.replace('DIR', dir).replace('ROOT', root))
const folded = (text: string) => text.replaceAll(dir, 'DIR').replaceAll(root, 'ROOT')

/** In this order they are one story: a disk comes and goes. */
const successes: [line: string, text: RegExp][] = [
  ['vm add web DIR/vm.sock', /^web stands for DIR\/vm\.sock\n$/],
  ['vm list', /^NAME +ADDRESS\nweb +DIR\/vm\.sock\n$/],
  ['vm show web', /^vm +web\naddress +DIR\/vm\.sock\nqemu +10\.\S+\nmachine +pc-q35-\S+\nstate +running\n/],
  ['apply DIR/disks.yaml --dry-run', /^\{"execute":"blockdev-add",.*\}\n\{"execute":"device_add",.*\}\n$/],
  ['attach web DIR/disk.raw --id data --datapath userspace', /^data is attached; datapath: idle \(vhost=off\)\n$/],
  ['apply DIR/disks.yaml', /^web is so already: 1 disk\n$/],
  ['list web', /^ID +SIZE +MODE .*\ndata +8 MiB +rw .* DIR\/disk\.raw +idle \(vhost=off\)\n$/],
  ['show web data', /^id +data\ndevice +vhost-blk-pci at \/machine\/peripheral\/data\nbus +rp1 00\.0\n/],
  ['cache web data', /^writeback\n$/],
  ['datapath web data', /^idle \(vhost=off\)\n$/],
  ['resize web data 16M', /^data has 16 MiB now, and had 8 MiB\n$/],
  ['stats web data', /^DISK +QUEUE +DATAPATH .*\ndata +all +idle +0 /],
  ['migrate status', /^no migration is open\n$/],
  ['migrate history', /^no migration is known\n$/],
  ['migrate recover', /^no migration is open\n$/],
  ['migrate abort', /^no migration is open\n$/],
  ['detach web data', /^data is detached\n$/],
  ['vm remove web', /^web is forgotten\n$/],
  ['completion bash', /^_vblk\(\) \{\n[\s\S]*\ncomplete -F _vblk vblk\n$/],
  ['device status ROOT/usr/bin/qemu-system-x86_64', /^build id +[0-9a-f]{40}\ndevice +\S+\/vhost-blk\.so\n$/m],
  ['device args ROOT/usr/bin/qemu-system-x86_64', /^-plugin file=\S+\/vhost-blk\.so\n$/],
  [
    'device build ROOT/usr/bin/qemu-system-x86_64 --out DIR/built --dry-run',
    /^\S+\/native\/qemu\/build --qemu ROOT\/usr\/bin\/qemu-system-x86_64 --out DIR\/built\n$/,
  ],
  ['module status', /^kernel +\S+\nsource +\S+\/kmod\nmodule +not built\n/],
  ['module unload', /^not loaded\n$/],
]

const failures: [line: string, exitCode: number, code: string, stderr: RegExp][] = [
  ['vm add a/b DIR/vm.sock', 2, 'BAD_NAME', /^Error: 'a\/b' can't be a VM's name: /],
  ['vm list x', 2, 'USAGE', /^Error: unexpected argument: x\nHint: see: vblk vm list --help\n$/],
  ['vm show web', 3, 'VM_NOT_FOUND', /^Error: web: no such VM, and no such socket\nHint: give the path/],
  ['vm remove a/b', 2, 'BAD_NAME', /^Error: 'a\/b' can't be a VM's name: /],
  ['apply DIR/none.yaml', 3, 'FILE_UNREADABLE', /^Error: can't read DIR\/none\.yaml: ENOENT: /],
  [
    'attach DIR/vm.sock DIR/none.raw --id d',
    3,
    'SOURCE_NOT_FOUND',
    /^Error: DIR\/none\.raw: no such file or block device\n$/,
  ],
  ['list DIR/none.sock', 3, 'NO_SUCH_SOCKET', /^Error: DIR\/none\.sock: no such socket\n$/],
  [
    'show DIR/vm.sock x',
    3,
    'DISK_NOT_FOUND',
    /^Error: DIR\/vm\.sock has no virtio disk with the id x\nHint: see its disks with: vblk list/,
  ],
  ['cache DIR/vm.sock x off', 3, 'DISK_NOT_FOUND', /^Error: DIR\/vm\.sock has no virtio disk with the id x\n/],
  ['datapath DIR/vm.sock x kernel', 3, 'DISK_NOT_FOUND', /^Error: DIR\/vm\.sock has no virtio disk with the id x\n/],
  [
    'resize DIR/vm.sock x much',
    2,
    'BAD_SIZE',
    /^Error: 'much' is not a size like 10G, 1\.5T, \+5G or a number of bytes\n$/,
  ],
  ['stats DIR/vm.sock x', 3, 'DISK_NOT_FOUND', /^Error: DIR\/vm\.sock has no virtio disk with the id x\n/],
  ['events DIR/none.sock', 3, 'NO_SUCH_SOCKET', /^Error: DIR\/none\.sock: no such socket\n$/],
  ['migrate DIR/vm.sock DIR/none.sock', 3, 'NO_SUCH_SOCKET', /^Error: DIR\/none\.sock: no such socket\n$/],
  ['migrate preflight DIR/vm.sock DIR/none.sock', 3, 'NO_SUCH_SOCKET', /^Error: DIR\/none\.sock: no such socket\n$/],
  ['migrate prepare DIR/vm.sock DIR/none.sock', 3, 'NO_SUCH_SOCKET', /^Error: DIR\/none\.sock: no such socket\n$/],
  ['migrate run', 3, 'MIGRATION_NOT_FOUND', /^Error: no migration is open\nHint: begin one: vblk migrate prepare\n$/],
  [
    'migrate finish',
    3,
    'MIGRATION_NOT_FOUND',
    /^Error: no migration is open\nHint: begin one: vblk migrate prepare\n$/,
  ],
  ['migrate status x', 2, 'USAGE', /^Error: unexpected argument: x\n/],
  ['migrate history x', 2, 'USAGE', /^Error: unexpected argument: x\n/],
  [
    'migrate recover x',
    3,
    'MIGRATION_NOT_FOUND',
    /^Error: no migration x is known on this host\nHint: see: vblk migrate history\n$/,
  ],
  [
    'migrate abort x',
    3,
    'MIGRATION_NOT_FOUND',
    /^Error: no migration x is known on this host\nHint: see: vblk migrate history\n$/,
  ],
  ['detach DIR/none.sock d', 3, 'NO_SUCH_SOCKET', /^Error: DIR\/none\.sock: no such socket\n$/],
  ['completion tcsh', 2, 'USAGE', /^Error: expected tcsh to be one of: bash, zsh, fish\n/],
  ['device status /none', 3, 'NO_SUCH_QEMU', /^Error: \/none: no such file\nHint: give the path of a QEMU program/],
  [
    'device args /bin/sh',
    4,
    'NO_DEVICE_OBJECT',
    /^Error: there is no vhost-blk device for \S+ \(build id [0-9a-f]+\)\nHint: build it: vblk device build /,
  ],
  ['device adapt /none x', 2, 'USAGE', /^Error: unexpected argument: x\n/],
  ['device build /none', 3, 'NO_SUCH_QEMU', /^Error: \/none: no such file\n/],
  ['doctor', 4, 'CHECK_FAILED', /^Error: \d+ of \d+ checks failed: .*module-loaded.*\nHint: begin with: /],
  ['module status x', 2, 'USAGE', /^Error: unexpected argument: x\n/],
  [
    'module build',
    4,
    'NO_KERNEL_HEADERS',
    /^Error: the headers of kernel \S+ are missing .*\nHint: apt-get install linux-headers-/,
  ],
  [
    'module sign --build-dir DIR',
    4,
    'MODULE_ABSENT',
    /^Error: there is no vhost_blk module in DIR\nHint: build it: vblk module build\n$/,
  ],
  ['module install --build-dir DIR', 4, 'MODULE_ABSENT', /^Error: there is no vhost_blk module in DIR\n/],
  ['module load --build-dir DIR', 4, 'MODULE_ABSENT', /^Error: there is no vhost_blk module in DIR\n/],
  ['module upgrade --build-dir DIR', 4, 'MODULE_ABSENT', /^Error: there is no vhost_blk module in DIR\n/],
  ['module unload x', 2, 'USAGE', /^Error: unexpected argument: x\n/],
]

describe('what is done is said', () => {
  test.each(successes)('%s', async (line, text) => {
    const said = await vblk(words(line), { text: true })
    expect({ exitCode: said.exitCode, stderr: line.startsWith('device status') ? '' : said.stderr }).toEqual({
      exitCode: 0,
      stderr: '',
    })
    expect(folded(said.stdout)).toMatch(text)
    const { exitCode, envelope } = await vblk(words(line))
    expect({ exitCode, envelope }).toMatchObject({ exitCode: 0, envelope: { ok: true, result: expect.anything() } })
  })
})

describe('what fails is said, the same in both', () => {
  test.each(failures)('%s', async (line, exitCode, code, stderr) => {
    const said = await vblk(words(line), { text: true })
    expect(said.exitCode).toBe(exitCode)
    expect(folded(said.stderr)).toMatch(stderr)
    const { exitCode: again, stderr: noise, envelope } = await vblk(words(line))
    expect({ again, noise, envelope }).toMatchObject({
      again: exitCode,
      noise: '',
      envelope: { ok: false, error: { code, exitCode } },
    })
    expect(said.stderr).toContain(`Error: ${envelope.error?.message}\n`)
  })
})

test('stdin is not taken for an argument that is left out', async () => {
  const { exitCode, stderr } = await execa(program, ['detach', 'web'], { input: 'data\n', reject: false })
  expect([exitCode, stderr.split('\n')[0]]).toEqual([2, 'Error: missing argument ID'])
})

test('a name that is not UTF-8 is not taken for another one', async () => {
  const shell = 'exec "$0" "$1" list "$(printf "/tmp/disk\\377.sock")" "$2"'
  const run = (flag: string) => execa('sh', ['-c', shell, process.execPath, program, flag], { reject: false })
  const { exitCode, stdout, stderr } = await run('--quiet')
  expect({ exitCode, stdout, stderr }).toEqual({
    exitCode: 2,
    stdout: '',
    stderr:
      "Error: the argument '/tmp/disk\ufffd.sock' is not UTF-8\n" +
      'Hint: vblk and QMP can name no such file: rename it, or give it a second name with ln',
  })
  expect(JSON.parse((await run('--json')).stdout)).toMatchObject({ error: { code: 'NOT_UTF8', exitCode: 2 } })
  expect((await vblk(['list', '/tmp/disk\ufffd.sock'])).envelope.error).toMatchObject({ code: 'NO_SUCH_SOCKET' })
})

test('no command is left out', () => {
  const { commands } = JSON.parse(readFileSync(join(top, 'oclif.manifest.json'), 'utf8'))
  const shown = Object.keys(commands).filter((id) => !commands[id].hidden)
  const ids = shown.map((id) => id.replaceAll(':', ' '))
  const isOf = (id: string) => (line: string) => line === id || line.startsWith(`${id} `)
  expect(ids.filter((id) => !failures.some(([line]) => isOf(id)(line)))).toEqual([])
  // What needs a host with the module, minutes, or a second QEMU is shown at work in tests of its own.
  const elsewhere = [
    'doctor',
    'device adapt',
    'events',
    'module build',
    'module install',
    'module load',
    'module sign',
    'migrate finish',
    'migrate preflight',
    'migrate prepare',
    'migrate run',
  ]
  const missing = ids.filter((id) => !successes.some(([line]) => isOf(id)(line)))
  expect(missing.sort()).toEqual([...elsewhere, 'module upgrade'].sort())
})
