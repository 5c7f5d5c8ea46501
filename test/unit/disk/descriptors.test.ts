// SPDX-License-Identifier: GPL-2.0-or-later
import { afterEach, expect, test } from '@jest/globals'
import { foreignKernel } from '../../../src/disk/descriptors.ts'
import { openVm, type Vm } from '../../../src/vm/vm.ts'
import { answerAll, FakeMonitor, refuse, reply } from '../qmp/fake-monitor.ts'

const disk = { id: 'd1', path: '/machine/peripheral/d1' }
const ours = { fd: 20, opaque: 'vblk:d1:kernel:/dev/vhost-blk' }

let monitor: FakeMonitor | undefined
let vm: Vm | undefined
afterEach(async () => {
  await vm?.qmp.close()
  await monitor?.stop()
})

test.each<[string, Record<string, string>, object[], string | undefined]>([
  ['by its path', { vhostdev: '/dev/vhost-blk', vhostfds: '' }, [], undefined],
  ["by vblk's own set", { vhostdev: '/dev/fdset/3' }, [{ 'fdset-id': 3, fds: [ours] }], undefined],
  ['by a set that vblk has withdrawn', { vhostdev: '/dev/fdset/3' }, [], undefined],
  ['as a descriptor', { vhostdev: '/dev/vhost-blk', vhostfds: 'mgr' }, [], 'vhostfds=mgr'],
  ["by a manager's set", { vhostdev: '/dev/fdset/3' }, [{ 'fdset-id': 3, fds: [{ fd: 20 }] }], 'vhostdev=/dev/fdset/3'],
  [
    "by another disk's set",
    { vhostdev: '/dev/fdset/3' },
    [{ 'fdset-id': 3, fds: [{ fd: 20, opaque: 'vblk:d10:kernel:/dev/vhost-blk' }] }],
    'vhostdev=/dev/fdset/3',
  ],
])('a disk that has /dev/vhost-blk %s', async (_how, properties, sets, expected) => {
  monitor = await FakeMonitor.start(
    answerAll({
      'qom-get': (command, peer) => {
        const value = properties[String(command.arguments.property)]
        if (value === undefined) refuse(peer, command, 'Property not found')
        else reply(peer, command, value)
      },
      'query-fdsets': (command, peer) => reply(peer, command, sets),
    }),
  )
  vm = await openVm(monitor.path)
  expect(await foreignKernel(vm, disk)).toBe(expected)
})
