// SPDX-License-Identifier: GPL-2.0-or-later
// The forms in which a disk comes: legacy and modern PCI, -drive and -blockdev, several queues, iothreads; and what the block layer
// does on the way to an image, which the kernel would bypass. One guest, with two processors in the long form: only then it uses two
// queues.
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals'
import type { Guest } from '../lab/guest.ts'
import { Lab } from '../lab/lab.ts'
import { Disk, type DiskOptions, eventually, makeImage, startGuest, type VhostState } from './disk.ts'

jest.setTimeout(240_000)

const processors = process.env.VBLK_LONG ? 2 : 1

let lab: Lab
let guest: Guest
let legacy: string
let transitional: string
let image: string

beforeAll(async () => {
  lab = await Lab.start()
  ;[legacy, transitional, image] = [
    await makeImage(lab, 'legacy', 2),
    await makeImage(lab, 'transitional', 2),
    await makeImage(lab, 'variants', 2),
  ]
  const blockdev = { driver: 'raw', 'node-name': 'cold', file: { driver: 'file', filename: transitional } }
  guest = await startGuest(lab, {
    name: 'variants',
    smp: processors,
    args: [
      ...['-drive', `if=none,id=old,file=${legacy},format=raw,cache=none,aio=native`],
      ...['-device', 'vhost-blk-pci,id=legacy,drive=old,bus=pcie.0,disable-modern=on,disable-legacy=off'],
      ...['-blockdev', JSON.stringify(blockdev)],
      ...['-device', 'vhost-blk-pci,id=transitional,drive=cold,bus=pcie.0,disable-modern=off,disable-legacy=off'],
      ...['-object', 'iothread,id=io0', '-object', 'iothread,id=io1'],
    ],
  })
  await guest.up()
  await guest.awaitDisk('vdb')
})

afterAll(async () => {
  await guest?.kill()
  await lab?.stop()
})

afterEach(async () => {
  expect(await lab.kernelWarnings()).toEqual([])
  expect(await guest.kernelWarnings()).toEqual([])
})

const stateOf = async (id: string) =>
  (await guest.ask('qom-get', { path: `/machine/peripheral/${id}`, property: 'vhost-state' })) as VhostState

const hash = 'dd if="$1" bs=1M iflag=direct 2>/dev/null | sha256sum | cut -d" " -f1'

/** The guest writes all of a disk, from each of its processors; what it reads and what the image holds are the same. */
async function expectKept(device: string, path: string): Promise<void> {
  const write =
    'dd if=/dev/urandom of=/run/half bs=1M count=1 2>/dev/null; taskset "$2" dd if=/run/half of="$1" bs=64k seek="$3" oflag=direct conv=notrunc,fsync'
  await guest.check(['sh', '-euc', write, 'sh', device, '1', '0'])
  await guest.check(['sh', '-euc', write, 'sh', device, String(processors), '16'])
  const inGuest = (await guest.check(['sh', '-euc', hash, 'sh', device])).trim()
  expect((await lab.check(['sh', '-euc', hash, 'sh', path])).trim()).toBe(inGuest)
}

/** The PCI device id by which a guest knows a disk: 1001 of legacy and transitional devices, 1042 of modern ones (virtio 1.3, 4.1.2). */
const pciId = async (device: string) =>
  (await guest.check(['cat', `/sys/block/${device}/device/../device`])).trim().replace('0x', '')

/** Whether the guest has taken the disk for a modern one: it accepted VIRTIO_F_VERSION_1, the 32nd of the bits that are shown. */
const isModern = async (device: string) =>
  (await guest.check(['cat', `/sys/block/${device}/device/features`])).charAt(32) === '1'

/** What the kernel wrote for each queue of the disk that came last. */
async function writesByQueue(): Promise<number[]> {
  const read =
    'mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug; grep -h ^writes: "$(ls -td /sys/kernel/debug/vhost-blk/* | head -n 1)"/queue*'
  const lines = (await lab.check(['sh', '-euc', read])).trim().split('\n')
  return lines.map((line) => Number(line.split(':')[1]))
}

test('no descriptor of /dev/vhost-blk outlives an exec of QEMU', async () => {
  const flags =
    'for fd in /proc/$1/fd/*; do [ "$(readlink "$fd")" = /dev/vhost-blk ] && sed -n "s/^flags:[^0-9]*//p" "/proc/$1/fdinfo/$(basename "$fd")"; done; true'
  const found = (await lab.check(['sh', '-c', flags, 'sh', String(await guest.pid())])).trim().split('\n')
  const closedOnExec = 0o2000000
  expect(found.length).toBeGreaterThanOrEqual(2)
  expect(found.map((each) => Number.parseInt(each, 8) & closedOnExec)).toEqual(found.map(() => closedOnExec))
})

describe('the PCI device', () => {
  test.each<[string, string, string, () => string, boolean, string]>([
    ['legacy, given by -drive', 'vda', 'legacy', () => legacy, false, '1001'],
    ['transitional, given by -blockdev, its host cache on', 'vdb', 'transitional', () => transitional, true, '1001'],
  ])('%s, is served by the kernel', async (_kind, device, id, path, modern, pci) => {
    await eventually(
      () => stateOf(id),
      ({ active }) => active,
    )
    expect([await isModern(device), await pciId(device)]).toEqual([modern, pci])
    const before = (await stateOf(id)).requests
    await expectKept(`/dev/${device}`, path())
    expect(await stateOf(id)).toMatchObject({ active: true, errors: 0 })
    expect((await stateOf(id)).requests).toBeGreaterThan(before)
  })
})

describe('a hot-plugged disk', () => {
  let disk: Disk | undefined
  afterEach(async () => {
    await disk?.unplug()
    await guest.awaitDisk('vdc', false)
    disk = undefined
  })

  async function plug(options: DiskOptions): Promise<Disk> {
    disk = await Disk.plug(guest, image, options)
    await guest.awaitDisk('vdc')
    return disk
  }

  test.each<[string, Record<string, unknown>, number]>([
    ['with as many queues as processors, all of which are used', {}, processors],
    ['with one queue', { 'num-queues': 1 }, 1],
    ['with an iothread, for the time when QEMU serves it', { iothread: 'io0' }, processors],
    [
      'with an iothread for each queue',
      {
        'iothread-vq-mapping': [{ iothread: 'io0' }, { iothread: 'io1' }].slice(0, processors),
        'num-queues': processors,
      },
      processors,
    ],
  ])('%s, is served by the kernel, and by QEMU in between', async (_how, device, queues) => {
    const plugged = await plug({ device })
    expect(await plugged.onKernel()).toMatchObject({ 'running-queues': queues })
    expect(await isModern('vdc')).toBe(true)
    await expectKept('/dev/vdc', image)
    expect(await writesByQueue()).toEqual(Array.from({ length: queues }, () => expect.any(Number)))
    expect(Math.min(...(await writesByQueue()))).toBeGreaterThan(0)
    await plugged.set('vhost-active', false)
    await plugged.onUserspace('set to false')
    await expectKept('/dev/vdc', image)
    await plugged.set('vhost-active', true)
    await plugged.onKernel()
    await expectKept('/dev/vdc', image)
  })

  test('that lies behind an IOMMU for the guest is served by QEMU', async () => {
    const plugged = await plug({ device: { iommu_platform: true } })
    await plugged.onUserspace('an IOMMU')
    await expectKept('/dev/vdc', image)
  })

  test('with a copy-on-read filter is served by QEMU', async () => {
    const plugged = await plug({ raw: { driver: 'copy-on-read' } })
    await plugged.onUserspace("driver 'copy-on-read'")
    await expectKept('/dev/vdc', image)
  })

  test('that is encrypted is served by QEMU, which alone has the key', async () => {
    const encrypted = await makeImage(lab, 'luks', 16)
    await lab.check(['rm', encrypted])
    await guest.ask('object-add', { 'qom-type': 'secret', id: 'key', data: 'secret words' })
    const create = ['qemu-img', 'create', '-q', '-f', 'luks', '--object', 'secret,id=key,data=secret words']
    await lab.check([...create, '-o', 'key-secret=key,iter-time=10', encrypted, '16M'], { timeoutMs: 120_000 })
    disk = await Disk.plug(guest, encrypted, { raw: { driver: 'luks', 'key-secret': 'key' } })
    await guest.awaitDisk('vdc')
    await disk.onUserspace("driver 'luks'")
    await guest.check(['sh', '-euc', 'echo plain words | dd of=/dev/vdc conv=fsync,notrunc'])
    expect((await lab.exec(['grep', '-q', 'plain words', encrypted])).exitCode).toBe(1)
  })

  test('is left by the kernel while its node has a write threshold, of which every write must tell', async () => {
    const plugged = await plug({})
    await plugged.onKernel()
    await guest.ask('block-set-write-threshold', { 'node-name': 'file0', 'write-threshold': 1 << 20 })
    await plugged.onUserspace('write threshold')
    await guest.check(['dd', 'if=/dev/zero', 'of=/dev/vdc', 'bs=1M', 'count=2', 'oflag=direct', 'conv=notrunc'])
    expect(guest.events('BLOCK_WRITE_THRESHOLD')).toHaveLength(1)
    await plugged.onKernel()
  })
})
