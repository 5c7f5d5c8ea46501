// SPDX-License-Identifier: GPL-2.0-or-later
// A running VM gets another QEMU under it, started by vblk from the arguments of the first: from stock virtio-blk onto the
// kernel's datapath, under a load that verifies what it reads.
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import type { DiskInfo } from '../../src/disk/info.ts'
import type { MigratedVm } from '../../src/migration/result.ts'
import { Guest } from '../lab/guest.ts'
import { Lab } from '../lab/lab.ts'
import { tryVblk, vblk } from '../lab/vblk.ts'

jest.setTimeout(400_000)

const dir = '/var/lib/migrate-test'
const image = `${dir}/same-host.raw`
let lab: Lab
let guest: Guest

beforeAll(async () => {
  lab = await Lab.start()
  await vblk(lab, ['module', 'load'])
  await lab.check(['install', '-d', '-m', '0700', dir])
  await lab.check(['truncate', '-s', '32M', image])
  const node = { driver: 'raw', 'node-name': 'n', cache: { direct: true }, file: { driver: 'file', filename: image } }
  const args = [
    ...['-pidfile', `${dir}/vm.pid`, '-blockdev', JSON.stringify(node)],
    ...['-device', 'virtio-blk-pci,id=data,bus=port0,drive=n,serial=LAB0001'],
  ]
  guest = await Guest.start(lab, { name: 'vm', device: false, args })
  await guest.up()
  await guest.awaitDisk('vda')
  await guest.check(['sh', '-c', 'echo "write through" >/sys/block/vda/cache_type'])
  await guest.startLoad('/dev/vda', ['-t', '2', '-p', '10000'])
}, 300_000)

afterAll(() => lab?.stop())

const migrate = (...options: string[]) => tryVblk<MigratedVm>(lab, ['migrate', guest.qmp, '--same-host', ...options])
const qemus = async () =>
  (await lab.check(['pgrep', '-f', '^qemu-system-x86_64 |/qemu-system-x86_64 '])).trim().split('\n')
const files = async () => (await lab.check(['sh', '-c', `ls /run/guests/vm ${dir}`])).trim().split('\n').sort()
const disks = async () => (await vblk<{ disks: DiskInfo[] }>(lab, ['list', guest.qmp])).disks

test('a program that is no QEMU, or a name that is taken, is refused; the VM goes on, and nothing is left', async () => {
  const [before, processes] = [await files(), await qemus()]
  const other = await migrate('--qemu', '/usr/bin/true')
  expect(other).toMatchObject({ ok: false, exitCode: 5, error: { code: 'DESTINATION_NOT_STARTED' } })
  const missing = await migrate('--qemu', '/usr/bin/no-qemu')
  expect(missing).toMatchObject({ exitCode: 3, error: { code: 'NO_SUCH_QEMU' } })
  const taken = await tryVblk(lab, ['migrate', guest.qmp, guest.spare, '--same-host'])
  expect(taken).toMatchObject({ exitCode: 2, error: { code: 'NOT_STARTABLE' } })
  expect(await files()).toEqual(before)
  expect(await qemus()).toEqual(processes)
  expect(await disks()).toMatchObject([{ id: 'data', type: 'virtio-blk-pci' }])
})

test('the VM leaves stock virtio-blk for the kernel, with its monitor and sockets where they were', async () => {
  const before = await files()
  const [old] = await qemus()
  const { result, warnings, error } = await migrate('--datapath', 'kernel')
  expect({ result, error, warnings }).toMatchObject({
    result: {
      status: 'running',
      destination: guest.qmp,
      source: 'quit',
      disks: [{ id: 'data', datapath: { before: 'userspace', after: 'kernel' } }],
    },
    error: undefined,
  })
  const [now, ...others] = await qemus()
  expect([others, now === old]).toEqual([[], false])
  expect(await files()).toEqual(before)
  expect((await lab.check(['cat', `${dir}/vm.pid`])).trim()).toBe(now)
  expect(await disks()).toMatchObject([
    {
      id: 'data',
      datapath: 'kernel',
      serial: 'LAB0001',
      writeCache: { original: 'writeback', current: 'writethrough' },
    },
  ])
  expect((await guest.check(['cat', '/sys/block/vda/cache_type'])).trim()).toBe('write through')
})

test('once more, to a monitor of another name, with a disk that vblk attached; no data is lost', async () => {
  const second = `${dir}/second.raw`
  await lab.check(['sh', '-euc', 'head -c 8M /dev/urandom >"$1"', 'sh', second])
  await vblk(lab, ['attach', guest.qmp, second, '--id', 'second', '--datapath', 'kernel', '--read-only'])
  await guest.awaitDisk('vdb')
  const monitor = '/run/guests/vm/other.sock'
  const { result, error } = await tryVblk<MigratedVm>(lab, ['migrate', guest.qmp, monitor, '--same-host'])
  expect({ result, error }).toMatchObject({ result: { destination: monitor, source: 'quit' }, error: undefined })
  const list = await vblk<{ disks: DiskInfo[] }>(lab, ['list', monitor])
  expect(list.disks).toMatchObject([
    { id: 'data', datapath: 'kernel' },
    { id: 'second', datapath: 'kernel', readOnly: true },
  ])
  expect(await guest.stopLoad()).toMatch(/^vload: ok /)
  const hash = 'dd if="$1" bs=1M iflag=direct 2>/dev/null | sha256sum | cut -d" " -f1'
  for (const [device, file] of [
    ['/dev/vda', image],
    ['/dev/vdb', second],
  ] as const)
    expect(await guest.check(['sh', '-c', hash, 'sh', device])).toBe(await lab.check(['sh', '-c', hash, 'sh', file]))
  expect([...(await lab.kernelWarnings()), ...(await guest.kernelWarnings())]).toEqual([])
})
