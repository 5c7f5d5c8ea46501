// SPDX-License-Identifier: GPL-2.0-or-later
// The plugin in the stock QEMU, on this machine, by emulation and with no guest.

import { copyFile, mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals'
import { cache, root, top } from '../lab/setup/paths.ts'
import { askQemu, builtObject, inRoot, linesOf } from './root-qemu.ts'

jest.setTimeout(120_000)

let dir: string
let image: string

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'vblk-device-'))
  image = join(dir, 'disk.raw')
  await writeFile(image, '')
  await truncate(image, 16 << 20)
})

afterAll(async () => {
  await rm(dir, { recursive: true, force: true })
})

const drive = (...more: string[]) => [
  '-blockdev',
  ['driver=raw', 'node-name=n0', 'file.driver=file', `file.filename=${image}`, ...more].join(','),
]
const disk = (...more: string[]) => ['-device', ['vhost-blk-pci', 'id=d', 'drive=n0', ...more].join(',')]
const get = (property: string): [string, Record<string, unknown>] => [
  'qom-get',
  { path: '/machine/peripheral/d', property },
]

describe('a disk that the host cannot serve', () => {
  test('is served from userspace, says why once, and shows it', async () => {
    const { exitCode, stderr, replies } = await askQemu(
      [...drive(), ...disk('serial=S1', 'num-queues=2')],
      [get('vhost-state'), get('vhost-active'), get('vhost'), get('serial'), get('num-queues')],
    )
    expect(exitCode).toBe(0)
    expect(linesOf(stderr)).toEqual([
      expect.stringContaining("vhost-blk disk 'd' is served from userspace: the VM runs without KVM"),
    ])
    expect(replies.map((reply) => reply.return)).toEqual([
      expect.objectContaining({
        active: false,
        reason: 'the VM runs without KVM',
        fds: '',
        'running-queues': 0,
        requests: 0,
        errors: 0,
        held: 0,
      }),
      false,
      'auto',
      'S1',
      2,
    ])
  })

  test('with vhost=on is refused in one line', async () => {
    const { exitCode, stderr } = await askQemu([...drive(), ...disk('vhost=on', `vhostdev=${dir}/none`)], [])
    expect(exitCode).toBe(1)
    expect(linesOf(stderr)).toEqual([
      expect.stringMatching(/vhost=on is not possible: cannot open \S+\/none: No such file.*modprobe vhost_blk/),
    ])
  })

  test('with vhost=on and a vhostdev that is something else is refused in one line', async () => {
    const { exitCode, stderr } = await askQemu([...drive(), ...disk('vhost=on', 'vhostdev=/dev/zero')], [])
    expect(exitCode).toBe(1)
    expect(linesOf(stderr)).toEqual([expect.stringContaining('/dev/zero is not a vhost-blk device')])
  })

  test('with vhost=off says nothing', async () => {
    const { stderr, replies } = await askQemu([...drive(), ...disk('vhost=off')], [get('vhost-state')])
    expect(stderr).toBe('')
    expect(replies[0]?.return).toMatchObject({ active: false, reason: 'vhost=off' })
  })

  test('refuses vhost-active=true with the reason, and keeps running', async () => {
    const { replies } = await askQemu(
      [...drive(), ...disk()],
      [
        ['qom-set', { path: '/machine/peripheral/d', property: 'vhost-active', value: true }],
        ['qom-set', { path: '/machine/peripheral/d', property: 'vhost-active', value: false }],
        get('vhost-active'),
      ],
    )
    expect(replies[0]?.error?.desc).toBe("the kernel can't serve this disk: the VM runs without KVM")
    expect(replies[1]).toMatchObject({ return: {} })
    expect(replies[2]?.return).toBe(false)
  })
})

describe('the device', () => {
  test('shows original and current write cache as the drive has them', async () => {
    for (const [option, value] of [
      ['write-cache=on', true],
      ['write-cache=off', false],
    ] as const) {
      const { replies } = await askQemu(
        [...drive(), ...disk(option)],
        [get('original-write-cache'), get('current-write-cache')],
      )
      expect(replies.map((reply) => reply.return)).toEqual([value, value])
    }
  })

  test('has every property of virtio-blk-pci', async () => {
    const list = (typename: string): [string, Record<string, unknown>] => ['device-list-properties', { typename }]
    const { replies } = await askQemu([], [list('virtio-blk-pci'), list('vhost-blk-pci')])
    const names = replies.map((reply) => (reply.return as { name: string }[]).map(({ name }) => name))
    expect(names[0]?.length).toBeGreaterThan(50)
    expect(names[1]).toEqual(expect.arrayContaining(names[0] ?? []))
  })

  test('is refused a second time on the same drive, as virtio-blk is', async () => {
    const { exitCode, stderr } = await askQemu([...drive(), ...disk(), '-device', 'vhost-blk-pci,drive=n0'], [])
    expect(exitCode).toBe(1)
    expect(stderr).toContain('n0')
  })

  test('is plugged and unplugged while QEMU runs', async () => {
    const add = { driver: 'vhost-blk-pci', id: 'd', drive: 'n0', bus: 'rp' }
    const { exitCode, replies } = await askQemu(
      [...drive(), '-device', 'pcie-root-port,id=rp'],
      [['device_add', { ...add, vhost: 'on' }], ['device_add', add], get('vhost-active'), ['device_del', { id: 'd' }]],
    )
    expect(exitCode).toBe(0)
    expect(replies[0]?.error?.desc).toContain('vhost=on is not possible')
    expect(replies.slice(1)).toEqual([
      expect.objectContaining({ return: {} }),
      expect.objectContaining({ return: false }),
      expect.objectContaining({ return: {} }),
    ])
  })
})

describe('the plugin', () => {
  test('refuses a QEMU of another build id in one line', async () => {
    const other = join(dir, 'qemu-other')
    const buildId = (await builtObject()).split('/').at(-2) ?? ''
    const binary = await readFile(join(root, 'usr/bin/qemu-system-x86_64'))
    const at = binary.indexOf(Buffer.from(buildId, 'hex'))
    expect(at).toBeGreaterThan(0)
    binary[at] = (binary[at] ?? 0) ^ 0xff
    await writeFile(other, binary, { mode: 0o755 })
    const { exitCode, stderr } = await askQemu([], [], other)
    expect(exitCode).toBe(1)
    expect(linesOf(stderr)).toEqual([
      expect.stringMatching(
        new RegExp(`built for another QEMU binary \\(build id ${buildId}, this one has [0-9a-f]+\\)`),
      ),
    ])
  })

  test('has trace events, which its own argument enables from the start', async () => {
    const object = await builtObject()
    const ask: [string, Record<string, unknown>] = ['trace-event-get-state', { name: 'vhost_blk_*' }]
    const states = async (plugin?: string) => {
      const { replies } = await askQemu([], [ask], 'qemu-system-x86_64', plugin)
      return ((replies[0]?.return ?? []) as { name: string; state: string }[]).map(({ state }) => state)
    }
    const off = await states()
    expect(off.length).toBeGreaterThan(5)
    expect(new Set(off)).toEqual(new Set(['disabled']))
    expect(await states(`file=${object},trace=vhost_blk_*`)).toEqual(off.map(() => 'enabled'))
  })

  test('refuses other arguments in one line', async () => {
    const plugin = `file=${await builtObject()},speed=11`
    const { exitCode, stderr } = await askQemu([], [], 'qemu-system-x86_64', plugin)
    expect(exitCode).toBe(1)
    expect(linesOf(stderr)).toEqual([
      expect.stringContaining("takes trace=PATTERN and no other argument, not 'speed=11'"),
    ])
  })
})

describe('the build', () => {
  const build = (...args: string[]) => inRoot([join(top, 'native/qemu/build'), ...args])

  test('does nothing when nothing has changed', async () => {
    const { mtimeMs } = await stat(await builtObject())
    const { exitCode, stderr } = await build('--out', join(cache, 'native'))
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' })
    expect((await stat(await builtObject())).mtimeMs).toBe(mtimeMs)
  })

  test.each([
    [['--qemu', '/nowhere/qemu'], 3, 'there is no QEMU at /nowhere/qemu'],
    [['--qemu', '/etc/passwd'], 4, '/etc/passwd is no ELF program with a build id'],
    [['--colour'], 2, "unknown argument '--colour'"],
  ])('says in one line what is wrong with %j', async (args, code, words) => {
    const { exitCode, stderr } = await build(...args, '--out', join(dir, 'out'))
    expect(exitCode).toBe(code)
    expect(linesOf(stderr)).toEqual([expect.stringContaining(words)])
  })

  test('refuses the source of another version', async () => {
    const source = join(dir, 'source')
    const copy = join(dir, 'qemu-copy')
    await inRoot(['mkdir', source])
    await writeFile(join(source, 'VERSION'), '9.9.9\n')
    await copyFile(join(root, 'usr/bin/qemu-system-x86_64'), copy)
    const { exitCode, stderr } = await inRoot([
      'env',
      `VBLK_QEMU_SRC=${source}`,
      join(top, 'native/qemu/build'),
      '--qemu',
      copy,
      '--out',
      join(dir, 'out'),
    ])
    expect(exitCode).toBe(5)
    expect(linesOf(stderr)).toEqual([expect.stringMatching(/is QEMU 9\.9\.9, but \S+ is 10\.0/)])
  })
})
