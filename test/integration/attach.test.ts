// SPDX-License-Identifier: GPL-2.0-or-later

import { constants } from 'node:fs'
import { chmod, mkdir, open, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals'
import type { AttachResult } from '../../src/disk/attach.ts'
import { inRoot } from '../device/root-qemu.ts'
import { makeFolder, makeImage, Qemu, removeFolder, type State, startVblk, type VblkOptions, vblk } from './qemu.ts'
import { type Moment, QmpProxy } from './qmp-proxy.ts'

jest.setTimeout(120_000)

let dir: string
let qemu: Qemu
let image: string

beforeAll(async () => {
  dir = await makeFolder()
  image = await makeImage(join(dir, 'disk.raw'))
  qemu = await Qemu.start(dir, 'vm', { hotplug: 'native', args: ['-object', 'iothread,id=io1'] })
})

afterAll(async () => {
  await qemu?.stop()
  await removeFolder(dir)
})

const attach = (...argv: string[]) => vblk<AttachResult>(['attach', qemu.socket, ...argv])
const detach = (id: string) => vblk(['detach', qemu.socket, id])

describe('attach', () => {
  afterEach(() => detach('d1'))

  test('gives a disk an iothread for the time that QEMU serves it', async () => {
    const missing = await attach(image, '--id', 'd1', '--datapath', 'auto', '--iothread', 'io9')
    expect([missing.exitCode, missing.envelope.error?.code]).toEqual([5, 'NO_SUCH_IOTHREAD'])
    expect(missing.envelope.error?.message).toMatch(/^this VM has no iothread io9: /)
    const disk = ['--id', 'd1', '--datapath', 'auto']
    const { envelope } = await attach(image, ...disk, '--iothread', 'io1')
    expect(envelope.result).toMatchObject({ changed: true, disk: { iothread: 'io1' } })
    expect((await attach(image, ...disk, '--iothread', 'io1')).envelope.result).toMatchObject({ changed: false })
    const other = await attach(image, ...disk)
    expect([other.exitCode, other.envelope.error?.message]).toEqual([
      5,
      'd1 is attached already, and differs: iothread is io1, not none',
    ])
  })

  test('adds a disk as asked, and does nothing the second time', async () => {
    const options = ['--datapath', 'userspace', '--serial', 'S 1', '--queues', '2', '--write-cache', 'writethrough']
    const first = await attach(image, '--id', 'd1', ...options)
    expect(first.envelope).toMatchObject({
      ok: true,
      warnings: [],
      result: {
        id: 'd1',
        changed: true,
        dryRun: false,
        disk: {
          id: 'd1',
          type: 'vhost-blk-pci',
          node: 'vblk-d1',
          file: image,
          sizeBytes: 8 << 20,
          readOnly: false,
          cache: 'none',
          writeCacheSetting: 'writethrough',
          writeCache: { original: 'writethrough', current: 'writethrough' },
          serial: 'S 1',
          queues: 2,
          bus: 'rp1',
          addr: '00.0',
          datapathSetting: 'userspace',
          datapath: 'idle',
          reason: 'vhost=off',
          kernel: { requests: 0, runningQueues: 0, fds: [], errors: 0 },
        },
      },
    })
    expect(first.exitCode).toBe(0)
    const state = await qemu.state()
    expect(state).toEqual({
      devices: ['d1 child<vhost-blk-pci>', 'rp1 child<pcie-root-port>', 'rp2 child<pcie-root-port>', 'type string'],
      nodes: ['vblk-d1', 'vblk-d1-file'],
    })
    const again = await attach(image, '--id', 'd1', ...options)
    expect(again).toMatchObject({
      exitCode: 0,
      envelope: { result: { changed: false, disk: { id: 'd1' }, commands: [] } },
    })
    const said = await vblk(['attach', qemu.socket, image, '--id', 'd1', ...options], { text: true })
    expect(said.stdout).toBe('d1 is attached already; datapath: idle (vhost=off)\n')
    expect(await qemu.state()).toEqual(state)
  })

  test('sets block sizes, discard and limits, and knows them again', async () => {
    const options = ['--logical-block-size', '4096', '--physical-block-size', '16384', '--discard', 'ignore']
    const limits = ['--bandwidth', '10M', '--iops', '500']
    const first = await attach(image, '--id', 'd1', ...options, ...limits)
    expect(first).toMatchObject({
      exitCode: 0,
      envelope: {
        result: {
          disk: {
            blockSize: { logical: 4096, physical: 16384 },
            discard: 'ignore',
            limits: { bytesPerSecond: 10 << 20, requestsPerSecond: 500 },
            // Limits are QEMU's to keep.
            datapathSetting: 'auto',
          },
        },
      },
    })
    const path = '/machine/peripheral/d1'
    expect(await qemu.qmp.execute('qom-get', { path, property: 'discard' })).toBe(false)
    const blocks = await qemu.qmp.execute('query-block')
    expect(blocks.find(({ qdev }) => qdev?.startsWith(path))?.inserted).toMatchObject({ bps: 10 << 20, iops: 500 })

    expect(await attach(image, '--id', 'd1', ...options, ...limits)).toMatchObject({
      exitCode: 0,
      envelope: { result: { changed: false } },
    })
    const other = await attach(image, '--id', 'd1', ...options, '--datapath', 'auto', '--iops', '501')
    expect(other).toMatchObject({ exitCode: 5, envelope: { error: { code: 'DISK_DIFFERS' } } })
    expect(other.envelope.error?.details).toEqual({
      differences: [
        `limit of bytes per second is ${10 << 20}, not none`,
        'limit of requests per second is 500, not 501',
      ],
    })
    expect((await vblk(['show', qemu.socket, 'd1'], { text: true })).stdout).toMatch(
      /^limits +10 MiB\/s, 500 requests\/s$/m,
    )
  })

  test('a dry run shows the limits too, in the order in which all is sent', async () => {
    const { envelope } = await attach(image, '--id', 'd1', '--bandwidth', '1G', '--dry-run')
    expect(envelope.result?.commands.map(({ execute }) => execute)).toEqual([
      'blockdev-add',
      'device_add',
      'block_set_io_throttle',
    ])
  })

  test('knows the file again by another path', async () => {
    const other = join(dir, 'link.raw')
    await symlink(image, other)
    await attach(image, '--id', 'd1', '--datapath', 'userspace')
    expect(await attach(other, '--id', 'd1', '--datapath', 'userspace')).toMatchObject({
      exitCode: 0,
      envelope: { result: { changed: false } },
    })
  })

  test('names every difference from the disk that has the id', async () => {
    const other = await makeImage(join(dir, 'other.raw'))
    await attach(image, '--id', 'd1', '--datapath', 'userspace', '--serial', 'A')
    const state = await qemu.state()
    const asked = [other, '--id', 'd1', '--datapath', 'auto', '--serial', 'B', '--cache', 'writeback']
    const { exitCode, envelope } = await attach(
      ...[...asked, '--read-only', '--write-cache', 'writeback', '--queues', '3', '--bus', 'rp2', '--addr', '1'],
    )
    expect(exitCode).toBe(5)
    expect(envelope.error).toMatchObject({
      code: 'DISK_DIFFERS',
      details: {
        differences: [
          `file is ${image}, not ${other}`,
          'read-only is no, not yes',
          'cache is none, not writeback',
          'write cache is auto, not writeback',
          'serial is A, not B',
          'datapath is userspace, not auto',
          'queues is 1, not 3',
          'bus is rp1, not rp2',
          'address is 00.0, not 01.0',
        ],
      },
    })
    expect(await qemu.state()).toEqual(state)
  })

  test('with --datapath auto says why the kernel does not serve it, without waiting', async () => {
    const { exitCode, envelope } = await attach(image, '--id', 'd1', '--datapath', 'auto', '--read-only')
    expect(exitCode).toBe(0)
    expect(envelope.result?.disk).toMatchObject({
      readOnly: true,
      datapath: 'idle',
      reason: 'the VM runs without KVM',
      datapathSetting: 'auto',
    })
  })

  test('takes bytes that look like a format when told to', async () => {
    const path = join(dir, 'luks.raw')
    await writeFile(path, Buffer.concat([Buffer.from('LUKS\xba\xbe', 'latin1'), Buffer.alloc(1 << 20)]))
    expect((await attach(path, '--id', 'd1', '--datapath', 'userspace', '--raw')).exitCode).toBe(0)
  })
})

describe('a block device', () => {
  const loops: string[] = []
  async function loop(...options: string[]): Promise<string> {
    const file = await makeImage(join(dir, `loop${loops.length}.raw`), 4 << 20)
    const { exitCode, stdout, stderr } = await inRoot(['losetup', '--find', '--show', ...options, file])
    if (exitCode !== 0) throw new Error(`losetup: ${stderr}`)
    loops.push(stdout.trim())
    return stdout.trim()
  }
  afterAll(async () => {
    for (const device of loops) await inRoot(['losetup', '--detach', device])
  })
  const userspace = ['--id', 'd1', '--datapath', 'userspace']

  test('is attached with its own size, through the driver for host devices', async () => {
    const device = await loop()
    const dryRun = await attach(device, ...userspace, '--dry-run')
    expect(dryRun.envelope.result?.commands[0]?.arguments).toMatchObject({
      file: { driver: 'host_device', filename: device },
    })
    const { exitCode, envelope } = await attach(device, ...userspace)
    expect(exitCode).toBe(0)
    expect(envelope.result?.disk).toMatchObject({ file: device, sizeBytes: 4 << 20 })
    await detach('d1')
  })

  test('that is read-only is taken only for reading', async () => {
    const device = await loop('--read-only')
    const writable = await attach(device, ...userspace)
    expect(writable).toMatchObject({ exitCode: 5, envelope: { error: { code: 'SOURCE_READ_ONLY' } } })
    expect((await attach(device, ...userspace, '--read-only')).exitCode).toBe(0)
    await detach('d1')
  })

  test('that the host itself uses is refused for writing', async () => {
    const device = await loop()
    // The claim that a mount takes, too.
    const claim = await open(device, constants.O_RDONLY | constants.O_EXCL)
    try {
      const { exitCode, envelope } = await attach(device, ...userspace)
      expect(exitCode).toBe(5)
      expect(envelope.error).toMatchObject({ code: 'SOURCE_IN_USE', message: expect.stringContaining('this host') })
    } finally {
      await claim.close()
    }
    expect((await qemu.state()).nodes).toEqual([])
  })
})

test('--dry-run prints the commands in order, and changes nothing', async () => {
  const before = await qemu.state()
  const { exitCode, envelope } = await attach(image, '--id', 'd1', '--dry-run', '--serial', 'X', '--cache', 'writeback')
  expect(exitCode).toBe(0)
  expect(envelope.result).toEqual({
    id: 'd1',
    changed: false,
    dryRun: true,
    disk: null,
    commands: [
      {
        execute: 'blockdev-add',
        arguments: {
          driver: 'raw',
          'node-name': 'vblk-d1',
          'read-only': false,
          discard: 'unmap',
          cache: { direct: false, 'no-flush': false },
          file: {
            driver: 'file',
            'node-name': 'vblk-d1-file',
            filename: image,
            aio: 'threads',
            locking: 'auto',
            'read-only': false,
            'auto-read-only': false,
            discard: 'unmap',
            cache: { direct: false, 'no-flush': false },
          },
        },
      },
      {
        execute: 'device_add',
        arguments: {
          driver: 'vhost-blk-pci',
          id: 'd1',
          bus: 'rp1',
          drive: 'vblk-d1',
          vhost: 'on',
          'write-cache': 'auto',
          serial: 'X',
        },
      },
    ],
  })
  expect(await qemu.state()).toEqual(before)
})

describe('a bad attach has one clear line, the right exit code, and leaves nothing', () => {
  let before: State
  beforeEach(async () => {
    before = await qemu.state()
  })
  afterEach(async () => {
    expect(await qemu.state()).toEqual(before)
  })

  /** Runs it twice: what a machine reads, and what a person reads. */
  async function expectFailure(
    argv: string[],
    exitCode: number,
    code: string,
    message: RegExp,
    options: VblkOptions = {},
  ) {
    const json = await vblk(argv, options)
    expect(json.envelope).toMatchObject({
      ok: false,
      error: { code, exitCode, message: expect.stringMatching(message) },
    })
    expect(json.exitCode).toBe(exitCode)
    const text = await vblk(argv, { ...options, text: true })
    expect(text.exitCode).toBe(exitCode)
    expect(text.stdout).toBe('')
    const [error, ...rest] = text.stderr.trimEnd().split('\n')
    expect(error).toMatch(/^Error: /)
    expect(error).toMatch(message)
    expect(rest.filter((line) => !line.startsWith('Hint: '))).toEqual([])
  }
  const fails = (argv: string[], exitCode: number, code: string, message: RegExp) =>
    expectFailure(['attach', qemu.socket, ...argv], exitCode, code, message)
  const userspace = ['--id', 'd1', '--datapath', 'userspace']

  test('no such socket', () =>
    expectFailure(['attach', join(dir, 'none.sock'), image, '--id', 'd1'], 3, 'NO_SUCH_SOCKET', /no such socket/))

  test('the source is missing', () =>
    fails([join(dir, 'none'), ...userspace], 3, 'SOURCE_NOT_FOUND', /none: no such file/))

  test('the source is a directory', () => fails([dir, ...userspace], 5, 'SOURCE_NOT_A_DISK', /is a directory/))

  test('the source is a character device', () =>
    fails(['/dev/zero', ...userspace], 5, 'SOURCE_NOT_A_DISK', /neither a regular file nor a block device/))

  test('the source is empty', async () =>
    fails([await makeImage(join(dir, 'empty'), 0), ...userspace], 5, 'SOURCE_EMPTY', /is empty/))

  test.each(['qcow2', 'vmdk', 'vdi', 'vhdx', 'qed'])('the source is a %s image', async (format) => {
    const path = join(dir, `image.${format}`)
    expect(await inRoot(['qemu-img', 'create', '-q', '-f', format, path, '1M'])).toMatchObject({ exitCode: 0 })
    await fails([path, ...userspace], 5, 'SOURCE_NOT_RAW', new RegExp(`is not raw: it begins like a ${format} image`))
  })

  test('the source is a LUKS image', async () => {
    const path = join(dir, 'image.luks')
    const secret = ['--object', 'secret,id=s,data=x', '-o', 'key-secret=s,iter-time=10']
    expect(await inRoot(['qemu-img', 'create', '-q', '-f', 'luks', ...secret, path, '1M'])).toMatchObject({
      exitCode: 0,
    })
    await fails([path, ...userspace], 5, 'SOURCE_NOT_RAW', /begins like a luks image/)
  })

  test('the source is not readable by who runs vblk', async () => {
    const path = await makeImage(join(dir, 'secret.raw'))
    await chmod(path, 0o600)
    await chmod(qemu.socket, 0o777)
    const argv = ['attach', qemu.socket, path, ...userspace]
    await expectFailure(argv, 5, 'SOURCE_NOT_READABLE', /not readable: .*permission denied/, { uid: 65534 })
  })

  test('the source is not writable by who runs vblk', async () => {
    const path = await makeImage(join(dir, 'public.raw'))
    await chmod(path, 0o644)
    await chmod(qemu.socket, 0o777)
    const argv = ['attach', qemu.socket, path, ...userspace]
    await expectFailure(argv, 5, 'SOURCE_READ_ONLY', /not writable: .*permission denied/, { uid: 65534 })
  })

  test('the source is on a read-only medium', async () => {
    const medium = join(dir, 'medium')
    await mkdir(medium)
    const argv = ['attach', qemu.socket, await makeImage(join(medium, 'disk.raw')), ...userspace]
    await expectFailure(argv, 5, 'SOURCE_READ_ONLY', /not writable: .*read-only/, { readOnlyFolder: medium })
    const readOnly = await vblk([...argv, '--read-only', '--dry-run'], { readOnlyFolder: medium })
    expect(readOnly.exitCode).toBe(0)
  })

  test('the image is in use by another QEMU', async () => {
    const other = await Qemu.start(dir, 'other')
    try {
      expect((await vblk(['attach', other.socket, image, ...userspace])).exitCode).toBe(0)
      await fails([image, ...userspace], 5, 'IMAGE_IN_USE', /disk.raw is in use by another QEMU/)
    } finally {
      await other.stop()
    }
  })

  test('the image is in use by another disk of the same VM', async () => {
    await attach(image, '--id', 'first', '--datapath', 'userspace')
    before = await qemu.state()
    await fails([image, ...userspace], 5, 'IMAGE_IN_USE', /in use/)
    await detach('first')
    before = await qemu.state()
  })

  test('the id belongs to another device', () =>
    fails([image, '--id', 'rp1'], 5, 'ID_TAKEN', /the id rp1 belongs to a pcie-root-port/))

  test('a node of the name is there without a device', async () => {
    const file = { driver: 'file' as const, filename: await makeImage(join(dir, 'stray.raw')) }
    await qemu.qmp.execute('blockdev-add', { driver: 'raw', 'node-name': 'vblk-d1', file })
    before = await qemu.state()
    await fails([image, ...userspace], 5, 'NODE_EXISTS', /vblk-d1 without a device/)
    await detach('d1')
    before = await qemu.state()
  })

  test('the QEMU has no vhost-blk device', async () => {
    const plain = await Qemu.start(dir, 'plain', { plugin: false })
    try {
      const empty = await plain.state()
      const argv = ['attach', plain.socket, image, '--id', 'd1']
      await expectFailure(argv, 4, 'NO_VHOST_BLK_DEVICE', /has no device type vhost-blk-pci/)
      expect((await vblk(argv)).envelope.error?.hint).toContain('vblk device args')
      expect(await plain.state()).toEqual(empty)
    } finally {
      await plain.stop()
    }
  })

  test('no free hot-plug port, and none at all', async () => {
    const full = await Qemu.start(dir, 'full', { ports: 1, args: ['-device', 'virtio-rng-pci,bus=rp1'] })
    const bare = await Qemu.start(dir, 'bare', { ports: 0 })
    try {
      await expectFailure(
        ['attach', full.socket, image, ...userspace],
        5,
        'NO_FREE_SLOT',
        /no free one among 1 hot-plug/,
      )
      await expectFailure(['attach', bare.socket, image, ...userspace], 5, 'NO_FREE_SLOT', /no hot-pluggable PCIe port/)
      expect((await bare.state()).nodes).toEqual([])
    } finally {
      await full.stop()
      await bare.stop()
    }
  })

  test('the bus does not exist', () => fails([image, ...userspace, '--bus', 'nix'], 5, 'NO_SUCH_BUS', /no bus nix/))

  test('the bus takes no hot-plug', () =>
    fails([image, ...userspace, '--bus', 'pcie.0'], 5, 'SLOT_UNUSABLE', /bus pcie.0 .*does not support hotplugging/))

  test('the kernel shall serve it and cannot', () =>
    fails([image, '--id', 'd1', '--datapath', 'kernel'], 4, 'NO_KERNEL_DATAPATH', /kernel datapath is not available/))

  test.each([
    ['a serial of 21 bytes', ['--serial', 'x'.repeat(21)], 'BAD_SERIAL'],
    ['a serial with a control character', ['--serial', 'a\nb'], 'BAD_SERIAL'],
    ['an empty serial', ['--serial', ''], 'BAD_SERIAL'],
    ['no queues', ['--queues', '0'], 'BAD_QUEUES'],
    ['65 queues', ['--queues', '65'], 'BAD_QUEUES'],
    ['an address that is none', ['--bus', 'rp1', '--addr', '99'], 'BAD_ADDR'],
    ['an empty bus', ['--bus', ''], 'BAD_BUS'],
  ])('%s', async (_what, argv, code) => {
    const { exitCode, envelope } = await attach(image, ...userspace, ...argv)
    expect(exitCode).toBe(2)
    expect(envelope.error).toMatchObject({ code })
  })

  test.each(['1abc', '', 'a b', 'x'.repeat(22), '../x', '-x'])('the id %j', async (id) => {
    const { exitCode, envelope } = await attach(image, `--id=${id}`)
    expect(exitCode).toBe(2)
    expect(envelope.error).toMatchObject({ code: 'BAD_ID' })
  })

  test.each([
    ['no id', [], /id/],
    ['an unknown cache mode', ['--id', 'd1', '--cache', 'turbo'], /turbo/],
    ['queues in words', ['--id', 'd1', '--queues', 'many'], /many|integer/i],
    ['an address without a bus', ['--id', 'd1', '--addr', '1'], /bus/],
  ])('%s', async (_what, argv, message) => {
    const { exitCode, envelope } = await attach(image, ...argv)
    expect(exitCode).toBe(2)
    expect(envelope.error?.message).toMatch(message)
  })
})

describe('Ctrl-C in the middle', () => {
  interface Interruption {
    command: string
    moment: Moment
    signal: NodeJS.Signals
    argv?: string[]
  }

  async function interruptAt(target: Qemu, { command, moment, signal, argv = [] }: Interruption) {
    const path = join(dir, 'proxy.sock')
    let interrupt = () => {}
    const proxy = await QmpProxy.start(path, target.socket, async (execute, when) => {
      if (execute !== command || when !== moment) return
      interrupt()
      // Long enough for the signal to be dealt with before the command goes on.
      await new Promise((resolve) => setTimeout(resolve, 300))
    })
    try {
      const running = startVblk(['attach', path, image, '--id', 'd1', '--datapath', 'userspace', ...argv])
      interrupt = () => running.process.kill(signal)
      return await running.outcome
    } finally {
      await proxy.stop()
    }
  }

  test.each([
    ['device-list-properties', 'after', 'SIGINT'],
    ['blockdev-add', 'before', 'SIGINT'],
    ['blockdev-add', 'after', 'SIGTERM'],
    ['device_add', 'before', 'SIGHUP'],
    ['device_add', 'after', 'SIGINT'],
    ['query-block', 'after', 'SIGINT'],
  ] as const)('of %s (%s it ran, %s): all is undone, exit 130', async (command, moment, signal) => {
    const before = await qemu.state()
    const { exitCode, envelope } = await interruptAt(qemu, { command, moment, signal })
    expect(envelope).toMatchObject({ ok: false, error: { code: 'INTERRUPTED', exitCode: 130 } })
    expect(exitCode).toBe(130)
    expect(await qemu.state()).toEqual(before)
  })

  test('with a device that only the guest can give back: exit 6, and detach is the way on', async () => {
    const slow = await Qemu.start(dir, 'slow', { hotplug: 'acpi' })
    try {
      const { exitCode, envelope } = await interruptAt(slow, {
        command: 'device_add',
        moment: 'after',
        signal: 'SIGINT',
        argv: ['--timeout', '1'],
      })
      expect(exitCode).toBe(6)
      expect(envelope.error).toMatchObject({ code: 'DETACH_PENDING', hint: expect.stringContaining('vblk detach') })
      expect((await slow.state()).devices).toContain('d1 child<vhost-blk-pci>')
    } finally {
      await slow.stop()
    }
  })
})

test('a QEMU that is killed in the middle is reported, not waited for', async () => {
  const victim = await Qemu.start(dir, 'victim')
  const path = join(dir, 'victim-proxy.sock')
  const proxy = await QmpProxy.start(path, victim.socket, (command, moment) => {
    if (command === 'device_add' && moment === 'before') victim.process.kill('SIGKILL')
  })
  try {
    const { exitCode, envelope } = await vblk(['attach', path, image, '--id', 'd1', '--datapath', 'userspace'])
    expect(exitCode).toBe(8)
    expect(envelope.error?.message).toMatch(/lost the connection to QEMU/)
  } finally {
    await proxy.stop()
    await victim.stop()
  }
})
