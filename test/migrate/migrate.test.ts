// SPDX-License-Identifier: GPL-2.0-or-later
// What only a real guest on the kernel datapath can show of a migration, under a load that verifies what it reads.

import { afterAll, afterEach, beforeAll, expect, jest, test } from '@jest/globals'
import type { DiskInfo } from '../../src/disk/info.ts'
import type { MigratedVm } from '../../src/migration/result.ts'
import { Guest } from '../lab/guest.ts'
import { Lab } from '../lab/lab.ts'
import { tryVblk, vblk } from '../lab/vblk.ts'

jest.setTimeout(240_000)

let image = '/var/lib/migrate-test/disk.raw'
let lab: Lab
/** The one that has the VM now. */
let guest: Guest
let started = 0

beforeAll(async () => {
  lab = await Lab.start()
  await vblk(lab, ['module', 'load'])
  await lab.check(['install', '-d', '-m', '0700', '/var/lib/migrate-test'])
  await lab.check(['truncate', '-s', '32M', image])
  guest = await Guest.start(lab, { name: 'first' })
  await guest.up()
  await vblk(lab, ['attach', guest.qmp, image, '--id', 'data', '--datapath', 'kernel'])
  await guest.awaitDisk('vda')
  await guest.check(['sh', '-c', 'echo "write through" >/sys/block/vda/cache_type'])
  await guest.startLoad('/dev/vda', ['-t', '2', '-p', '10000'])
}, 300_000)

afterEach(async () => {
  expect([...(await lab.kernelWarnings()), ...(await guest.kernelWarnings())]).toEqual([])
})

afterAll(() => lab?.stop())

const incoming = (options: { device?: boolean; args?: string[] } = {}) =>
  Guest.start(lab, { name: `next${++started}`, incoming: true, ...options })

async function disk(): Promise<DiskInfo> {
  const { disks } = await vblk<{ disks: DiskInfo[] }>(lab, ['list', guest.qmp])
  const found = disks.find(({ id }) => id === 'data')
  if (found === undefined) throw new Error(`no disk in ${JSON.stringify(disks)}`)
  return found
}

const kernelRequests = async () => (await disk()).kernel?.requests ?? 0

/** The kernel goes on serving the load. */
async function expectServed(): Promise<void> {
  const before = await kernelRequests()
  await guest.check(['sleep', '1'])
  expect(await kernelRequests()).toBeGreaterThan(before)
}

test('one that is rolled back leaves the kernel serving the load', async () => {
  const destination = await incoming()
  const outcome = await tryVblk(lab, [
    'migrate',
    guest.qmp,
    destination.qmp,
    '--bandwidth',
    '500000',
    '--timeout',
    '30',
  ])
  expect(outcome).toMatchObject({ exitCode: 7, error: { code: 'MIGRATION_ROLLED_BACK' }, warnings: [] })
  expect(await destination.alive()).toBe(false)
  expect(await disk()).toMatchObject({ datapath: 'kernel', writeCache: { current: 'writethrough' } })
  await expectServed()
})

test('the kernel stops before the state is saved, and serves the load on the destination', async () => {
  const before = await kernelRequests()
  const destination = await incoming()
  const { warnings, result } = await tryVblk<MigratedVm>(lab, [
    'migrate',
    guest.qmp,
    destination.qmp,
    '--datapath',
    'kernel',
  ])
  expect(warnings).toEqual([])
  expect(result).toMatchObject({
    status: 'running',
    backendStoppedBeforeSave: true,
    source: 'quit',
    disks: [
      {
        id: 'data',
        datapath: { before: 'kernel', after: 'kernel' },
        writeCache: { original: 'writeback', before: 'writethrough', after: 'writethrough' },
      },
    ],
  })
  expect(result?.disks[0]?.kernelRequests.before).toBeGreaterThan(before)
  expect(await guest.alive()).toBe(false)
  guest = destination
  expect((await guest.check(['cat', '/sys/block/vda/cache_type'])).trim()).toBe('write through')
  await expectServed()
})

const long = process.env.VBLK_LONG ? test : test.skip

test('a disk is copied to another image under the load: QEMU serves it meanwhile, and the kernel afterwards', async () => {
  const old = image
  const copy = '/var/lib/migrate-test/copy.raw'
  await lab.check(['truncate', '-s', '32M', copy])
  const destination = await incoming()
  const argv = ['migrate', guest.qmp, destination.qmp, '--copy-storage', `data=${copy}`, '--bandwidth', '8000000']
  const { warnings, result, error } = await tryVblk<MigratedVm>(lab, argv)
  expect({ warnings, error }).toEqual({ warnings: [], error: undefined })
  expect(result).toMatchObject({
    status: 'running',
    source: 'quit',
    disks: [
      {
        id: 'data',
        datapath: { before: 'kernel', after: 'kernel' },
        writeCache: { before: 'writethrough', after: 'writethrough' },
        copied: { from: old, file: copy },
      },
    ],
  })
  expect(result?.disks[0]?.copied?.bytes).toBeGreaterThanOrEqual(32 << 20)
  guest = destination
  image = copy
  const stale = await lab.check(['sha256sum', old])
  await expectServed()
  expect(await guest.stopLoad()).toMatch(/^vload: ok /)
  const hash = 'dd if="$1" bs=1M iflag=direct 2>/dev/null | sha256sum | cut -d" " -f1'
  const seen = await guest.check(['sh', '-c', hash, 'sh', '/dev/vda'])
  expect(await lab.check(['sh', '-c', hash, 'sh', copy])).toBe(seen)
  expect(await lab.check(['sha256sum', old])).toBe(stale)
  await guest.startLoad('/dev/vda', ['-t', '2', '-p', '10000'])
}, 480_000)

long('in postcopy the kernel serves the load while the memory follows', async () => {
  const destination = await incoming()
  const argv = ['migrate', guest.qmp, destination.qmp, '--postcopy', '--postcopy-after', '0', '--datapath', 'kernel']
  const { warnings, result, error } = await tryVblk<MigratedVm>(lab, [...argv, '--bandwidth', '16000000'])
  expect({ warnings, error }).toEqual({ warnings: [], error: undefined })
  expect(result).toMatchObject({
    status: 'running',
    postcopy: true,
    source: 'quit',
    disks: [{ datapath: { before: 'kernel', after: 'kernel' }, writeCache: { after: 'writethrough' } }],
  })
  guest = destination
  await expectServed()
  expect(await guest.stopLoad()).toMatch(/^vload: ok /)
  const hash = 'dd if="$1" bs=1M iflag=direct 2>/dev/null | sha256sum | cut -d" " -f1'
  const seen = await guest.check(['sh', '-c', hash, 'sh', '/dev/vda'])
  expect(await lab.check(['sh', '-c', hash, 'sh', image])).toBe(seen)
  await guest.startLoad('/dev/vda', ['-t', '2', '-p', '10000'])
})

long(
  'a hundred migrations under the load, each to a new QEMU, lose nothing',
  async () => {
    const downtimes: number[] = []
    for (let round = 1; round <= 100; round++) {
      const destination = await incoming()
      const { warnings, result } = await tryVblk<MigratedVm>(lab, ['migrate', guest.qmp, destination.qmp])
      const disks = [{ datapath: { before: 'kernel', after: 'kernel' }, writeCache: { after: 'writethrough' } }]
      expect({ round, warnings, result }).toMatchObject({ round, warnings: [], result: { status: 'running', disks } })
      guest = destination
      downtimes.push(result?.downtimeMs ?? Number.NaN)
    }
    expect(await guest.stopLoad()).toMatch(/^vload: ok /)
    const hash = 'dd if="$1" bs=1M iflag=direct 2>/dev/null | sha256sum | cut -d" " -f1'
    const seen = await guest.check(['sh', '-c', hash, 'sh', '/dev/vda'])
    expect(await lab.check(['sh', '-c', hash, 'sh', image])).toBe(seen)
    const sorted = downtimes.sort((a, b) => a - b)
    process.stderr.write(`downtime of 100 migrations: ${sorted[0]} to ${sorted[99]} ms, median ${sorted[50]} ms\n`)
    await guest.startLoad('/dev/vda', ['-t', '2', '-p', '10000'])
  },
  3_600_000,
)

test("a destination with QEMU's own virtio-blk takes it, and says that the kernel does not serve it any more", async () => {
  const destination = await incoming({
    device: false,
    args: [
      '-blockdev',
      `driver=raw,node-name=n,cache.direct=on,discard=unmap,file.driver=file,file.filename=${image},file.cache.direct=on,file.discard=unmap`,
      '-device',
      'virtio-blk-pci,id=data,bus=port0,drive=n,write-cache=off',
    ],
  })
  const refused = await tryVblk(lab, ['migrate', guest.qmp, destination.qmp, '--datapath', 'kernel'])
  expect(refused).toMatchObject({ exitCode: 5, error: { code: 'NO_KERNEL_DATAPATH' } })
  expect(refused.error?.message).toMatch(/ data on the destination: a virtio-blk-pci has no kernel datapath$/)
  const { warnings, result } = await tryVblk<MigratedVm>(lab, ['migrate', guest.qmp, destination.qmp])
  expect(warnings).toEqual([
    "data: QEMU's virtio-blk does not tell its write cache, so it can't be verified",
    expect.stringMatching(/^data: the kernel served it on the source and does not on the destination: /),
  ])
  expect(result).toMatchObject({ disks: [{ datapath: { before: 'kernel', after: 'userspace' } }] })
  guest = destination
  expect(await guest.stopLoad()).toMatch(/^vload: ok /)
})
