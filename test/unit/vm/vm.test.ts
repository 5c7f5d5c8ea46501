// SPDX-License-Identifier: GPL-2.0-or-later

import { afterEach, describe, expect, test } from '@jest/globals'
import { isDriven } from '../../../src/vm/guest-driver.ts'
import { listChildren, readProperty } from '../../../src/vm/qom.ts'
import { listSlots } from '../../../src/vm/slots.ts'
import { hasDeviceType, openVm, requireVhostBlk, type Vm, withVm } from '../../../src/vm/vm.ts'
import { answerAll, FakeMonitor, refuse, reply, type Script } from '../qmp/fake-monitor.ts'

let monitor: FakeMonitor | undefined
let vm: Vm | undefined
afterEach(async () => {
  await vm?.qmp.close()
  await monitor?.stop()
})

async function connect(scripts: Record<string, Script>): Promise<Vm> {
  monitor = await FakeMonitor.start(answerAll(scripts))
  vm = await openVm(monitor.path)
  return vm
}

test('an unknown device type is told from a lost connection', async () => {
  const target = await connect({
    'device-list-properties': (command, peer) =>
      command.arguments.typename === 'gone'
        ? peer.socket.destroy()
        : refuse(peer, command, "Device 'x' not found", 'DeviceNotFound'),
  })
  expect(await hasDeviceType(target, 'x')).toBe(false)
  await expect(requireVhostBlk(target)).rejects.toMatchObject({
    code: 'NO_VHOST_BLK_DEVICE',
    exitCode: 4,
    message: expect.stringContaining('10.0.13'),
  })
  await expect(hasDeviceType(target, 'gone')).rejects.toMatchObject({ code: 'QMP_CONNECTION_LOST' })
})

test('objects and properties that vanish are undefined, not failures', async () => {
  const target = await connect({
    'qom-list': (command, peer) => refuse(peer, command, 'Device not found', 'DeviceNotFound'),
    'qom-get': (command, peer) => refuse(peer, command, "Property 'x.y' not found"),
  })
  expect(await listChildren(target, '/none')).toEqual([])
  expect(await readProperty(target, '/none', 'y')).toBeUndefined()
})

describe('isDriven', () => {
  const status = (...statuses: string[]): Record<string, Script> => ({
    'qom-list': (command, peer) => reply(peer, command, [{ name: 'virtio-backend', type: 'child<vhost-blk>' }]),
    'x-query-virtio-status': (command, peer) =>
      command.arguments.path === '/d/virtio-backend'
        ? reply(peer, command, { status: { statuses } })
        : refuse(peer, command, 'not a virtio device'),
  })

  test.each([
    [
      true,
      ['VIRTIO_CONFIG_S_ACKNOWLEDGE: Valid virtio device found', 'VIRTIO_CONFIG_S_DRIVER_OK: Driver setup and ready'],
    ],
    [
      false,
      [
        'VIRTIO_CONFIG_S_ACKNOWLEDGE: Valid virtio device found',
        'VIRTIO_CONFIG_S_DRIVER: Guest OS compatible with device',
      ],
    ],
    [false, []],
  ])('is %s with %j', async (expected, statuses) => {
    expect(await isDriven(await connect(status(...statuses)), '/d')).toBe(expected)
  })

  test('is undefined when QEMU has no such command', async () => {
    const target = await connect({
      'x-query-virtio-status': (command, peer) => refuse(peer, command, 'unknown', 'CommandNotFound'),
      'qom-list': (command, peer) => reply(peer, command, []),
    })
    expect(await isDriven(target, '/d')).toBeUndefined()
  })
})

test('ports with hot-plug switched off, or without a handler, are no slots', async () => {
  const ports = ['off', 'bare', 'good10', 'good9']
  const target = await connect({
    'qom-list-types': (command, peer) => reply(peer, command, [{ name: 'pcie-root-port' }]),
    'qom-list': (command, peer) => {
      const [, , , port, bus] = (command.arguments.path as string).split('/')
      if (bus !== undefined) {
        return reply(peer, command, port === 'bare' ? [] : [{ name: 'hotplug-handler', type: 'link<hotplug-handler>' }])
      }
      if (port !== undefined) return reply(peer, command, [{ name: port, type: 'child<PCIE>' }])
      const isAnon = command.arguments.path.endsWith('anon')
      reply(peer, command, isAnon ? [] : ports.map((name) => ({ name, type: 'child<pcie-root-port>' })))
    },
    'qom-get': (command, peer) => reply(peer, command, !command.arguments.path.endsWith('off')),
  })
  expect(await listSlots(target)).toEqual([
    { bus: 'good9', occupants: [] },
    { bus: 'good10', occupants: [] },
  ])
})

test('withVm lets go of the monitor whatever happens', async () => {
  monitor = await FakeMonitor.start(answerAll())
  let used: Vm | undefined
  await expect(
    withVm(monitor.path, {}, async (target) => {
      used = target
      throw new Error('midway')
    }),
  ).rejects.toThrow('midway')
  expect(used?.qmp.runstate).toBe('idle')
})
