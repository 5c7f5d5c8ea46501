// SPDX-License-Identifier: GPL-2.0-or-later

import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals'
import type { DetachResult } from '../../src/disk/detach.ts'
import { makeFolder, makeImage, Qemu, removeFolder, type State, startVblk, vblk } from './qemu.ts'
import { QmpProxy } from './qmp-proxy.ts'

jest.setTimeout(120_000)

let dir: string
let image: string

beforeAll(async () => {
  dir = await makeFolder()
  image = await makeImage(join(dir, 'disk.raw'))
})

afterAll(() => removeFolder(dir))

const attach = async (qemu: Qemu, id: string, file = image) => {
  const { exitCode, envelope } = await vblk(['attach', qemu.socket, file, '--id', id, '--datapath', 'userspace'])
  expect(envelope).toMatchObject({ ok: true })
  expect(exitCode).toBe(0)
}
const detach = (qemu: Qemu, id: string, ...argv: string[]) => vblk<DetachResult>(['detach', qemu.socket, id, ...argv])

describe('with a slot that QEMU frees by itself', () => {
  let qemu: Qemu
  let empty: State
  beforeAll(async () => {
    qemu = await Qemu.start(dir, 'native', { hotplug: 'native' })
    empty = await qemu.state()
  })
  afterAll(() => qemu?.stop())

  test('removes device and node, and says so again when there is nothing', async () => {
    await attach(qemu, 'd1')
    const first = await detach(qemu, 'd1')
    expect(first).toMatchObject({
      exitCode: 0,
      envelope: {
        result: {
          id: 'd1',
          changed: true,
          removed: { device: true, node: true },
          keptNode: null,
          dryRun: false,
          commands: [
            { execute: 'device_del', arguments: { id: 'd1' } },
            { execute: 'blockdev-del', arguments: { 'node-name': 'vblk-d1' } },
          ],
        },
        warnings: [],
      },
    })
    expect(await qemu.state()).toEqual(empty)
    const again = await detach(qemu, 'd1')
    expect(again).toMatchObject({ exitCode: 0, envelope: { result: { changed: false, commands: [] } } })
    const said = await vblk(['detach', qemu.socket, 'd1'], { text: true })
    expect(said).toMatchObject({ exitCode: 0, stdout: 'd1 is not attached: nothing to do\n' })
  })

  test('--dry-run prints the commands, and changes nothing', async () => {
    await attach(qemu, 'd1')
    const before = await qemu.state()
    const { envelope } = await detach(qemu, 'd1', '--dry-run')
    expect(envelope.result).toMatchObject({
      changed: false,
      dryRun: true,
      commands: [{ execute: 'device_del' }, { execute: 'blockdev-del' }],
    })
    expect(await qemu.state()).toEqual(before)
    await detach(qemu, 'd1')
  })

  test('the image is free afterwards', async () => {
    await attach(qemu, 'd1')
    await detach(qemu, 'd1')
    await attach(qemu, 'd2')
    await detach(qemu, 'd2')
    expect(await qemu.state()).toEqual(empty)
  })

  test('removes a node that an interrupted command left', async () => {
    await qemu.qmp.execute('blockdev-add', {
      driver: 'raw',
      'node-name': 'vblk-d1',
      file: { driver: 'file', filename: image },
    })
    const { envelope } = await detach(qemu, 'd1')
    expect(envelope.result).toMatchObject({ changed: true, removed: { device: false, node: true } })
    expect(await qemu.state()).toEqual(empty)
  })

  test('keeps the node of a disk that vblk did not attach', async () => {
    await qemu.qmp.execute('blockdev-add', {
      driver: 'raw',
      'node-name': 'theirs',
      file: { driver: 'file', filename: image },
    })
    await qemu.qmp.execute('device_add', { driver: 'virtio-blk-pci', id: 'd1', bus: 'rp1', drive: 'theirs' })
    const { exitCode, envelope } = await detach(qemu, 'd1')
    expect(exitCode).toBe(0)
    expect(envelope.result).toMatchObject({ removed: { device: true, node: false }, keptNode: 'theirs' })
    expect((await qemu.state()).nodes).toContain('theirs')
    await qemu.qmp.execute('blockdev-del', { 'node-name': 'theirs' })
  })

  test('never removes a node in use', async () => {
    const file = { driver: 'file' as const, filename: image }
    await qemu.qmp.execute('blockdev-add', { driver: 'raw', 'node-name': 'vblk-d1', file })
    await qemu.qmp.execute('device_add', { driver: 'virtio-blk-pci', id: 'user', bus: 'rp1', drive: 'vblk-d1' })
    const before = await qemu.state()
    const { exitCode, envelope } = await detach(qemu, 'd1')
    expect(exitCode).toBe(5)
    expect(envelope.error).toMatchObject({ code: 'NODE_IN_USE', message: expect.stringContaining('vblk-d1') })
    expect(await qemu.state()).toEqual(before)
    await detach(qemu, 'user')
    await detach(qemu, 'd1')
    expect(await qemu.state()).toEqual(empty)
  })

  test('refuses what is not a disk', async () => {
    const { exitCode, envelope } = await detach(qemu, 'rp1')
    expect(exitCode).toBe(5)
    expect(envelope.error).toMatchObject({ code: 'NOT_A_DISK', message: 'rp1 is a pcie-root-port, not a virtio disk' })
    expect(await qemu.state()).toEqual(empty)
  })

  test.each(['', 'a b', '/machine', '1'])('the id %j is a usage error', async (id) => {
    expect((await detach(qemu, id)).exitCode).toBe(2)
  })

  test('Ctrl-C before anything was asked leaves the disk', async () => {
    await attach(qemu, 'd1')
    const before = await qemu.state()
    const path = join(dir, 'early.sock')
    let interrupt = () => {}
    const proxy = await QmpProxy.start(path, qemu.socket, async (command, moment) => {
      if (command !== 'query-named-block-nodes' || moment !== 'after') return
      interrupt()
      await new Promise((resolve) => setTimeout(resolve, 300))
    })
    const running = startVblk(['detach', path, 'd1'])
    interrupt = () => running.process.kill('SIGINT')
    const { exitCode, envelope } = await running.outcome
    await proxy.stop()
    expect(exitCode).toBe(130)
    expect(envelope.error?.code).toBe('INTERRUPTED')
    expect(await qemu.state()).toEqual(before)
    await detach(qemu, 'd1')
  })
})

/** Starts a migration that stays under way: it waits for a word before its switchover. */
async function startMigration(qemu: Qemu): Promise<void> {
  const capabilities = [{ capability: 'pause-before-switchover' as const, state: true }]
  await qemu.qmp.execute('migrate-set-capabilities', { capabilities })
  await qemu.qmp.execute('migrate', { uri: 'exec:cat >/dev/null' })
}

describe('a VM that is not in this QEMU', () => {
  test('because it has yet to come: neither attach nor detach', async () => {
    const device = ['-device', 'vhost-blk-pci,id=d1,drive=n0,vhost=off,bus=rp1']
    const drive = ['-blockdev', 'null-co,node-name=n0,size=1048576,read-zeroes=on']
    const qemu = await Qemu.start(dir, 'incoming', { args: ['-incoming', 'defer', ...drive, ...device] })
    try {
      const before = await qemu.state()
      for (const argv of [
        ['attach', qemu.socket, image, '--id', 'd2', '--datapath', 'userspace'],
        ['detach', qemu.socket, 'd1'],
      ]) {
        const { exitCode, envelope } = await vblk(argv)
        expect(exitCode).toBe(5)
        expect(envelope.error).toMatchObject({
          code: 'VM_NOT_HERE',
          message: expect.stringContaining('waits for a VM'),
        })
      }
      expect(await qemu.state()).toEqual(before)
    } finally {
      await qemu.stop()
    }
  })

  test('because it is moving: busy, exit 9, and as before', async () => {
    const qemu = await Qemu.start(dir, 'moving', { hotplug: 'native' })
    try {
      await attach(qemu, 'd1')
      const before = await qemu.state()
      await startMigration(qemu)
      const other = await makeImage(join(dir, 'other.raw'))
      for (const argv of [
        ['attach', qemu.socket, other, '--id', 'd2', '--datapath', 'userspace'],
        ['detach', qemu.socket, 'd1'],
      ]) {
        const { exitCode, envelope } = await vblk(argv)
        expect(exitCode).toBe(9)
        expect(envelope.error).toMatchObject({ code: 'VM_MIGRATING' })
      }
      expect(await qemu.state()).toEqual(before)
    } finally {
      await qemu.stop()
    }
  })

  test('because it begins to move in the middle of an attach: undone', async () => {
    const qemu = await Qemu.start(dir, 'leaving', { hotplug: 'native' })
    const before = await qemu.state()
    const path = join(dir, 'leaving-proxy.sock')
    const proxy = await QmpProxy.start(path, qemu.socket, async (command, moment) => {
      if (command !== 'device_add' || moment !== 'before') return
      await startMigration(qemu)
    })
    try {
      const { exitCode, envelope } = await vblk(['attach', path, image, '--id', 'd1', '--datapath', 'userspace'])
      expect(exitCode).toBe(9)
      expect(envelope.error?.code).toBe('VM_MIGRATING')
      expect(await qemu.state()).toEqual(before)
    } finally {
      await proxy.stop()
      await qemu.stop()
    }
  })
})

describe('with a guest that never answers the unplug request', () => {
  let qemu: Qemu
  let attached: State
  beforeEach(async () => {
    qemu = await Qemu.start(dir, 'silent', { hotplug: 'acpi' })
    await attach(qemu, 'd1')
    attached = await qemu.state()
  })
  afterEach(() => qemu?.stop())

  test('is pending, with exit 6, as often as it is asked', async () => {
    for (const _attempt of [1, 2]) {
      const start = Date.now()
      const { exitCode, envelope } = await detach(qemu, 'd1', '--timeout', '1')
      expect(exitCode).toBe(6)
      expect(Date.now() - start).toBeGreaterThan(1000)
      expect(envelope.error).toMatchObject({
        code: 'DETACH_PENDING',
        message: 'the guest had not given up d1 after 1 s; the request stays pending',
        hint: expect.stringContaining(`ask again with: vblk detach ${qemu.socket} d1`),
      })
      expect(await qemu.state()).toEqual(attached)
    }
  })

  test('says on one line what a person needs', async () => {
    const { exitCode, stdout, stderr } = await vblk(['detach', qemu.socket, 'd1', '--timeout', '0.5'], { text: true })
    expect(exitCode).toBe(6)
    expect(stdout).toBe('')
    expect(stderr.trimEnd().split('\n')).toEqual([
      expect.stringMatching(/^Error: the guest had not given up d1 after 0.5 s/),
      expect.stringMatching(/^Hint: .*ask again/),
    ])
  })

  test('finishes by itself when the guest lets go while a second detach waits', async () => {
    await detach(qemu, 'd1', '--timeout', '0.5')
    const path = join(dir, 'second.sock')
    const proxy = await QmpProxy.start(path, qemu.socket, async (command, moment) => {
      // A reset ends every pending unplug, as the guest's own answer does.
      if (command === 'device_del' && moment === 'after') await qemu.qmp.execute('system_reset')
    })
    const { exitCode, envelope } = await vblk<DetachResult>(['detach', path, 'd1', '--timeout', '60'])
    await proxy.stop()
    expect(exitCode).toBe(0)
    expect(envelope.result).toMatchObject({ changed: true, removed: { device: true, node: true } })
    expect((await qemu.state()).nodes).toEqual([])
  })

  test('a second detach removes the node when the guest has let go in between', async () => {
    await detach(qemu, 'd1', '--timeout', '0.5')
    const deleted = qemu.qmp.events(({ event, data }) => event === 'DEVICE_DELETED' && data.device === 'd1')
    await qemu.qmp.execute('system_reset')
    await deleted.next({ timeoutMs: 10_000 })
    expect((await qemu.state()).nodes).toEqual(['vblk-d1', 'vblk-d1-file'])
    const { exitCode, envelope } = await detach(qemu, 'd1')
    expect(exitCode).toBe(0)
    expect(envelope.result).toMatchObject({ changed: true, removed: { device: false, node: true } })
    expect((await qemu.state()).nodes).toEqual([])
  })

  test('Ctrl-C while it waits: pending, with exit 6', async () => {
    const path = join(dir, 'wait.sock')
    let interrupt = () => {}
    const proxy = await QmpProxy.start(path, qemu.socket, (command, moment) => {
      if (command === 'device_del' && moment === 'after') setTimeout(() => interrupt(), 300)
    })
    const running = startVblk(['detach', path, 'd1', '--timeout', '60'])
    interrupt = () => running.process.kill('SIGINT')
    const { exitCode, envelope } = await running.outcome
    await proxy.stop()
    expect(exitCode).toBe(6)
    expect(envelope.error).toMatchObject({
      code: 'DETACH_PENDING',
      message: 'the guest had not given up d1 when it was interrupted; the request stays pending',
    })
    expect(await qemu.state()).toEqual(attached)
  })
})
