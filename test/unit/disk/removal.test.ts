// SPDX-License-Identifier: GPL-2.0-or-later
// What guests and QEMUs may do to an unplug or an attach, and a real QEMU without a guest doesn't on demand.

import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { attachDisk } from '../../../src/disk/attach.ts'
import { detachDisk } from '../../../src/disk/detach.ts'
import type { OperationOptions } from '../../../src/disk/report.ts'
import { checkRequest, type DatapathChoice } from '../../../src/disk/spec.ts'
import { openVm, type Vm } from '../../../src/vm/vm.ts'
import { answerAll, FakeMonitor, type Peer, refuse, reply, type Script } from '../qmp/fake-monitor.ts'

let dir: string
let image: string
let monitor: FakeMonitor | undefined
let vm: Vm | undefined

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'vblk-removal-'))
  image = join(dir, 'disk.raw')
  await writeFile(image, '')
  await truncate(image, 1 << 20)
})
afterAll(() => rm(dir, { recursive: true, force: true }))
afterEach(async () => {
  await vm?.qmp.close()
  await monitor?.stop()
})

/** A QEMU in as few words as attach and detach need, which tests then change. */
class Model {
  device = false
  node = false
  running = true
  driven = true
  state = { active: true, reason: '', fds: '20', 'running-queues': 1, requests: 7, errors: 0 }

  scripts(): Record<string, Script> {
    return {
      'device-list-properties': (command, peer) => reply(peer, command, []),
      'qom-list-types': (command, peer) => reply(peer, command, [{ name: 'pcie-root-port' }]),
      'qom-list': (command, peer) => reply(peer, command, this.#list(command.arguments.path)),
      'qom-get': (command, peer) =>
        this.#get(command.arguments.property, (value) =>
          value === undefined ? refuse(peer, command, 'Property not found') : reply(peer, command, value),
        ),
      'query-named-block-nodes': (command, peer) =>
        reply(peer, command, this.node ? [{ 'node-name': 'vblk-d1' }, { 'node-name': 'vblk-d1-file' }] : []),
      'query-block': (command, peer) => reply(peer, command, []),
      'query-fdsets': (command, peer) => reply(peer, command, []),
      'query-status': (command, peer) =>
        reply(peer, command, { running: this.running, status: this.running ? 'running' : 'paused' }),
      'x-query-virtio-status': (command, peer) =>
        reply(peer, command, { status: { statuses: this.driven ? ['VIRTIO_CONFIG_S_DRIVER_OK: ready'] : [] } }),
      'blockdev-add': (command, peer) => {
        this.node = true
        reply(peer, command)
      },
      'blockdev-del': (command, peer) => {
        if (!this.node) return refuse(peer, command, "Failed to find node with node-name='vblk-d1'")
        this.node = false
        reply(peer, command)
      },
      device_add: (command, peer) => {
        this.device = true
        reply(peer, command)
      },
      device_del: (command, peer) => {
        reply(peer, command)
        this.letGo(peer)
      },
    }
  }

  /** The guest has answered. */
  letGo(peer: Peer): void {
    this.device = false
    peer.send({ event: 'DEVICE_DELETED', data: { path: '/machine/peripheral/d1/virtio-backend' } })
    peer.send({ event: 'DEVICE_DELETED', data: { device: 'other', path: '/machine/peripheral/other' } })
    peer.send({ event: 'DEVICE_DELETED', data: { device: 'd1', path: '/machine/peripheral/d1' } })
  }

  #list(path: string): object[] {
    const child = (name: string, type: string) => ({ name, type: `child<${type}>` })
    if (path === '/machine/peripheral') {
      return [child('rp1', 'pcie-root-port'), ...(this.device ? [child('d1', 'vhost-blk-pci')] : [])]
    }
    if (path === '/machine/peripheral/rp1') return [child('rp1', 'PCIE')]
    if (path === '/machine/peripheral/rp1/rp1') return [{ name: 'hotplug-handler', type: 'link<hotplug-handler>' }]
    return []
  }

  #get(property: string, answer: (value: unknown) => void): void {
    answer(({ 'vhost-state': this.state, hotplug: true, vhost: 'on' } as Record<string, unknown>)[property])
  }
}

async function connect(model: Model, changes: Record<string, Script> = {}): Promise<Vm> {
  monitor = await FakeMonitor.start(answerAll({ ...model.scripts(), ...changes }))
  vm = await openVm(monitor.path)
  return vm
}

function operation(changes: Partial<OperationOptions> = {}): OperationOptions & { warnings: string[] } {
  const warnings: string[] = []
  const run = <R>(_title: string, work: () => Promise<R>) => work()
  const report = { step: run, wait: run, warn: (message: string) => void warnings.push(message) }
  return { timeoutMs: 300, signal: new AbortController().signal, dryRun: false, report, warnings, ...changes }
}

const spec = (datapath: DatapathChoice = 'kernel') =>
  checkRequest({ id: 'd1', file: image, readOnly: false, raw: false, cache: 'none', writeCache: 'auto', datapath })

const attached = () => Object.assign(new Model(), { device: true, node: true })

describe('detach', () => {
  test('does not miss an answer that is faster than the reply, nor take another device for it', async () => {
    const model = attached()
    const target = await connect(model, {
      device_del: (command, peer) => {
        model.letGo(peer)
        reply(peer, command)
      },
    })
    expect(await detachDisk(target, 'd1', operation())).toMatchObject({ removed: { device: true, node: true } })
    expect(model).toMatchObject({ device: false, node: false })
  })

  test('is refused by a guest that can say no', async () => {
    const model = attached()
    const target = await connect(model, {
      device_del: (command, peer) => {
        reply(peer, command)
        peer.send({ event: 'DEVICE_UNPLUG_GUEST_ERROR', data: { device: 'd1', path: '/machine/peripheral/d1' } })
      },
    })
    await expect(detachDisk(target, 'd1', operation())).rejects.toMatchObject({ code: 'UNPLUG_REFUSED', exitCode: 5 })
    expect(model.node).toBe(true)
  })

  test('is refused by a QEMU that says no', async () => {
    const target = await connect(attached(), {
      device_del: (command, peer) => refuse(peer, command, "Bus 'pcie.0' does not support hotplugging"),
    })
    await expect(detachDisk(target, 'd1', operation())).rejects.toMatchObject({
      code: 'UNPLUG_REFUSED',
      exitCode: 5,
      message: expect.stringContaining('does not support hotplugging'),
    })
    expect(monitor?.commands).not.toContain('blockdev-del')
  })

  test('joins a request that is pending already', async () => {
    const model = attached()
    const target = await connect(model, {
      device_del: (command, peer) => {
        refuse(peer, command, 'Device d1 is already in the process of unplug')
        setTimeout(() => model.letGo(peer), 50)
      },
    })
    expect(await detachDisk(target, 'd1', operation())).toMatchObject({ changed: true })
    expect(model.node).toBe(false)
  })

  test('goes on when the device is gone before it is asked for', async () => {
    const model = attached()
    const target = await connect(model, {
      device_del: (command, peer) => {
        model.device = false
        refuse(peer, command, "Device 'd1' not found", 'DeviceNotFound')
      },
    })
    await detachDisk(target, 'd1', operation())
    expect(model.node).toBe(false)
  })

  test('looks once more when the time is over', async () => {
    const model = attached()
    const target = await connect(model, {
      device_del: (command, peer) => {
        model.device = false
        reply(peer, command)
      },
    })
    expect(await detachDisk(target, 'd1', operation({ timeoutMs: 50 }))).toMatchObject({ changed: true })
  })

  test('waits a moment for QEMU to let go of the node', async () => {
    const model = attached()
    let refusals = 3
    const target = await connect(model, {
      'blockdev-del': (command, peer) => {
        if (refusals-- > 0) return refuse(peer, command, 'Node vblk-d1 is in use')
        model.node = false
        reply(peer, command)
      },
    })
    await detachDisk(target, 'd1', operation())
    expect(model.node).toBe(false)
  })

  test('leaves a node that a job works on, and says so', async () => {
    const model = attached()
    const target = await connect(model, {
      'blockdev-del': (command, peer) =>
        refuse(peer, command, "Node 'vblk-d1' is busy: block device is used by block job: mirror"),
    })
    await expect(detachDisk(target, 'd1', operation())).rejects.toMatchObject({
      code: 'NODE_IN_USE',
      exitCode: 5,
      message: expect.stringContaining('mirror'),
    })
    expect(model).toMatchObject({ device: false, node: true })
  })
})

describe('attach', () => {
  test('waits until the guest has started the disk, and the kernel serves it', async () => {
    const model = Object.assign(new Model(), { driven: false })
    Object.assign(model.state, { active: false, reason: 'the guest has not started the disk' })
    const target = await connect(model)
    setTimeout(() => {
      model.driven = true
      Object.assign(model.state, { active: true, reason: '' })
    }, 250)
    const options = operation({ timeoutMs: 5000 })
    const result = await attachDisk(target, await spec(), options)
    expect(result.disk).toMatchObject({ datapath: 'kernel', reason: '', kernel: { requests: 7, fds: [20] } })
    expect(options.warnings).toEqual([])
  })

  test('says that nobody serves a disk which no guest starts', async () => {
    const model = Object.assign(new Model(), { driven: false })
    Object.assign(model.state, { active: false, reason: 'the guest has not started the disk' })
    const options = operation()
    const result = await attachDisk(await connect(model), await spec(), options)
    expect(result.disk).toMatchObject({ datapath: 'idle' })
    expect(options.warnings).toEqual(['d1 is attached, and nobody serves it yet: the guest has not started the disk'])
  })

  test('says when QEMU serves what the kernel was asked to', async () => {
    const model = new Model()
    Object.assign(model.state, { active: false, reason: 'the guest negotiated an IOMMU' })
    const options = operation()
    expect((await attachDisk(await connect(model), await spec(), options)).disk).toMatchObject({
      datapath: 'userspace',
    })
    expect(options.warnings).toEqual([
      'd1 is attached, and QEMU serves it, not the kernel: the guest negotiated an IOMMU',
    ])
  })

  test('does not wait for a VM that stands still', async () => {
    const model = Object.assign(new Model(), { running: false })
    Object.assign(model.state, { active: false, reason: 'the VM is stopped' })
    const start = Date.now()
    await attachDisk(await connect(model), await spec(), operation({ timeoutMs: 20_000 }))
    expect(Date.now() - start).toBeLessThan(5000)
  })

  test('undoes an add that was still under way when it was interrupted', async () => {
    const model = new Model()
    // A QEMU that works on one command reads no other meanwhile.
    const held: (() => void)[] = []
    let busy = false
    const inOrder = Object.fromEntries(
      Object.entries(model.scripts()).map(([name, script]): [string, Script] => [
        name,
        (command, peer) => (busy ? held.push(() => script(command, peer)) : script(command, peer)),
      ]),
    )
    const abort = new AbortController()
    const reason = new Error('stop')
    const target = await connect(model, {
      ...inOrder,
      device_add: (command, peer) => {
        busy = true
        abort.abort(reason)
        setTimeout(() => {
          busy = false
          model.device = true
          reply(peer, command)
          for (const run of held.splice(0)) run()
        }, 200)
      },
    })
    await expect(attachDisk(target, await spec(), operation({ signal: abort.signal }))).rejects.toMatchObject({
      code: 'INTERRUPTED',
      cause: reason,
    })
    expect(model).toMatchObject({ device: false, node: false })
  })

  test('is a failure rolled back when QEMU answers too late', async () => {
    const model = new Model()
    monitor = await FakeMonitor.start(
      answerAll({
        ...model.scripts(),
        device_add: (command, peer) => {
          model.device = true
          setTimeout(() => reply(peer, command), 400)
        },
      }),
    )
    vm = await openVm(monitor.path, { timeoutMs: 200 })
    await expect(attachDisk(vm, await spec(), operation())).rejects.toMatchObject({
      code: 'ATTACH_TIMED_OUT',
      exitCode: 7,
    })
    expect(model).toMatchObject({ device: false, node: false })
  })

  test('cannot promise anything when the rollback fails too', async () => {
    const model = new Model()
    const target = await connect(model, {
      device_add: (command, peer) => refuse(peer, command, 'no'),
      'blockdev-del': (command, peer) => refuse(peer, command, 'Node vblk-d1 is busy: mirror'),
    })
    await expect(attachDisk(target, await spec(), operation())).rejects.toMatchObject({
      code: 'ROLLBACK_FAILED',
      exitCode: 8,
      message: expect.stringContaining('mirror'),
    })
  })

  test('notices a disk that somebody else removes at once', async () => {
    const model = new Model()
    const target = await connect(model, { device_add: (command, peer) => reply(peer, command) })
    await expect(attachDisk(target, await spec(), operation())).rejects.toMatchObject({ code: 'DISK_VANISHED' })
    expect(model.node).toBe(false)
  })

  test.each([
    ['a lock', 'Failed to get "write" lock', 'IMAGE_IN_USE', 5],
    [
      'a missing module',
      'vhost=on is not possible: cannot open /dev/vhost-blk: No such file or directory',
      'NO_KERNEL_DATAPATH',
      4,
    ],
    ['a missing KVM', 'vhost=on is not possible: the VM runs without KVM', 'NO_KERNEL_DATAPATH', 4],
    ['an owner', "Could not open 'x': Permission denied", 'SOURCE_NOT_READABLE', 5],
    ['another namespace', "Could not open 'x': No such file or directory", 'SOURCE_NOT_FOUND', 3],
    ['a read-only medium', "Could not open 'x': Read-only file system", 'SOURCE_READ_ONLY', 5],
    ['tmpfs', "Could not open 'x': file system may not support O_DIRECT", 'NO_O_DIRECT', 5],
    ['something new', 'the moon is full', 'REFUSED_BY_QEMU', 5],
  ])('names %s', async (_what, desc, code, exitCode) => {
    const model = new Model()
    const target = await connect(model, { device_add: (command, peer) => refuse(peer, command, desc) })
    await expect(attachDisk(target, await spec(), operation())).rejects.toMatchObject({
      code,
      exitCode,
      message: expect.stringContaining(desc),
    })
    expect(model).toMatchObject({ device: false, node: false })
  })
})
