// SPDX-License-Identifier: GPL-2.0-or-later
// What only a real guest and a real module can show: a disk's life from attach to detach, and the ways in which it may fail.

import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, jest, test } from '@jest/globals'
import { Guest } from '../lab/guest.ts'
import { Lab } from '../lab/lab.ts'
import { tryVblk, vblk } from '../lab/vblk.ts'

jest.setTimeout(180_000)

interface Disk {
  id: string
  datapath: string
  file: string
  readOnly: boolean
  kernel: { requests: number; errors: number } | null
}

let lab: Lab
let guest: Guest
const image = '/var/lib/cli-test/disk.raw'

beforeAll(async () => {
  lab = await Lab.start()
  await lab.check(['install', '-d', '-m', '0700', '/var/lib/cli-test'])
  await lab.check(['truncate', '-s', '16M', image])
  guest = await Guest.start(lab, { name: 'cli' })
  await guest.up()
}, 300_000)

afterEach(async () => {
  expect(await lab.kernelWarnings()).toEqual([])
})

afterAll(async () => {
  await guest?.kill()
  await lab?.stop()
})

const disks = async () => (await vblk<{ disks: Disk[] }>(lab, ['list', guest.qmp])).disks

/** Names of QEMU's block nodes: what a failed command must not leave behind. */
const nodes = async () =>
  ((await guest.ask('query-named-block-nodes')) as { 'node-name': string }[]).map((node) => node['node-name'])

const attach = (file: string, ...flags: string[]) => ['attach', guest.qmp, file, '--id', 'd', ...flags]

test('without the module the kernel datapath is refused with the command that mends it, and nothing stays', async () => {
  const outcome = await tryVblk(lab, attach(image, '--datapath', 'kernel'))
  expect(outcome.exitCode).toBe(4)
  expect(`${outcome.error?.message} ${outcome.error?.hint}`).toContain('vblk module load')
  expect(await disks()).toEqual([])
  expect(await nodes()).toEqual([])
})

test('a disk attached through the kernel holds what the guest writes, and is gone after detach', async () => {
  await vblk(lab, ['module', 'load'])
  await vblk(lab, attach(image, '--serial', 'S-1'))
  await guest.awaitDisk('vda')
  await guest.check(['dd', 'if=/dev/urandom', 'of=/dev/vda', 'bs=1M', 'count=16', 'conv=fsync'])
  const hash = 'dd if="$1" bs=1M iflag=direct 2>/dev/null | sha256sum | cut -d" " -f1'
  const seen = (await guest.check(['sh', '-c', hash, 'sh', '/dev/vda'])).trim()
  expect(await guest.check(['cat', '/sys/block/vda/serial'])).toContain('S-1')
  const [disk] = await disks()
  expect(disk).toMatchObject({ id: 'd', datapath: 'kernel', readOnly: false })
  expect(disk?.kernel?.requests).toBeGreaterThan(16)

  expect(await vblk(lab, attach(image, '--serial', 'S-1'))).toMatchObject({ changed: false })
  expect((await tryVblk(lab, attach(image, '--serial', 'S-2'))).exitCode).toBe(5)

  await vblk(lab, ['detach', guest.qmp, 'd'])
  await guest.awaitDisk('vda', false)
  expect(await nodes()).toEqual([])
  expect((await lab.check(['sh', '-c', hash, 'sh', image])).trim()).toBe(seen)
  expect(await vblk(lab, ['detach', guest.qmp, 'd'])).toMatchObject({ changed: false })
})

test('a disk whose files were passed moves between kernel and userspace, and leaves no descriptor', async () => {
  const sets = async () => ((await guest.ask('query-fdsets')) as { fds: { opaque: string }[] }[]).length
  await vblk(lab, attach(image, '--pass-fd'))
  await guest.awaitDisk('vda')
  await guest.check(['dd', 'if=/dev/urandom', 'of=/dev/vda', 'bs=1M', 'count=16', 'conv=fsync'])
  expect(await disks()).toMatchObject([{ id: 'd', datapath: 'kernel', file: image }])
  expect(await sets()).toBe(2)

  await vblk(lab, ['datapath', guest.qmp, 'd', 'userspace'])
  // Of a disk in userspace it would keep the module loaded.
  expect(await sets()).toBe(1)
  await vblk(lab, ['datapath', guest.qmp, 'd', 'kernel'])
  expect(await disks()).toMatchObject([{ id: 'd', datapath: 'kernel' }])

  const hash = 'dd if="$1" bs=1M iflag=direct 2>/dev/null | sha256sum | cut -d" " -f1'
  const seen = await guest.check(['sh', '-c', hash, 'sh', '/dev/vda'])
  await vblk(lab, ['detach', guest.qmp, 'd'])
  await guest.awaitDisk('vda', false)
  expect(await lab.check(['sh', '-c', hash, 'sh', image])).toBe(seen)
  expect([await sets(), await nodes()]).toEqual([0, []])
})

test('a read-only medium is refused for writing, and serves a read-only disk', async () => {
  const loop = (await lab.check(['losetup', '--find', '--show', '--read-only', image])).trim()
  const outcome = await tryVblk(lab, attach(loop))
  expect(outcome.exitCode).toBe(5)
  expect(outcome.error?.message).toContain('read-only')
  expect(await nodes()).toEqual([])

  await vblk(lab, attach(loop, '--read-only'))
  await guest.awaitDisk('vda')
  expect((await guest.check(['cat', '/sys/block/vda/ro'])).trim()).toBe('1')
  expect(await disks()).toMatchObject([{ datapath: 'kernel', readOnly: true }])
  await vblk(lab, ['detach', guest.qmp, 'd'])
  await lab.check(['losetup', '--detach', loop])
})

test('a guest that does not answer the unplug leaves the detach pending; a later one finishes it', async () => {
  await vblk(lab, attach(image))
  await guest.awaitDisk('vda')
  await guest.ask('stop')
  const pending = await tryVblk(lab, ['detach', guest.qmp, 'd', '--timeout', '2'])
  expect(pending.exitCode).toBe(6)
  expect(`${pending.error?.message} ${pending.error?.hint}`).toContain('vblk detach')
  expect(await nodes()).not.toEqual([])

  await guest.ask('cont')
  await vblk(lab, ['detach', guest.qmp, 'd', '--timeout', '60'])
  await guest.awaitDisk('vda', false)
  expect(await nodes()).toEqual([])
})

test('the datapath is switched under the guest, and says when nothing changes', async () => {
  await vblk(lab, ['module', 'load'])
  await vblk(lab, attach(image, '--queues', '2'))
  await guest.awaitDisk('vda')
  const to = (datapath: string) => vblk<{ changed: boolean; disk: Disk }>(lab, ['datapath', guest.qmp, 'd', datapath])
  const hash = ['sh', '-c', 'dd if=/dev/vda bs=1M count=1 iflag=direct 2>/dev/null | sha256sum']
  const seen = await guest.check(hash)
  expect(await to('userspace')).toMatchObject({ changed: true, disk: { datapath: 'userspace' } })
  expect(await to('userspace')).toMatchObject({ changed: false, disk: { datapath: 'userspace' } })
  expect(await guest.check(hash)).toBe(seen)
  expect(await to('kernel')).toMatchObject({ changed: true, disk: { datapath: 'kernel' } })
})

test('a disk that the kernel serves grows, and the guest and the kernel see it', async () => {
  await vblk(lab, ['resize', guest.qmp, 'd', '20M'])
  const sectors = 'for i in $(seq 600); do [ "$(cat /sys/block/vda/size)" = 40960 ] && exit 0; sleep 0.1; done; exit 1'
  await guest.check(['sh', '-c', sectors])
  await guest.check(['dd', 'if=/dev/urandom', 'of=/dev/vda', 'bs=1M', 'seek=19', 'count=1', 'conv=fsync'])
  const end = ['sh', '-c', 'dd if="$1" bs=1M skip=19 2>/dev/null | sha256sum | cut -d" " -f1', 'sh']
  expect(await lab.check([...end, image])).toBe(await guest.check([...end, '/dev/vda']))
  expect(await disks()).toMatchObject([{ datapath: 'kernel' }])
})

test('the write cache goes off under the guest at once, and comes back with its next reset', async () => {
  const cache = (...words: string[]) => vblk(lab, ['cache', guest.qmp, 'd', ...words])
  expect(await cache('off')).toMatchObject({ changed: true, original: 'writethrough', current: 'writethrough' })
  await guest.check(['dd', 'if=/dev/urandom', 'of=/dev/vda', 'bs=4k', 'count=8', 'oflag=direct'])
  expect(await disks()).toMatchObject([{ datapath: 'kernel', kernel: { errors: 0 } }])
  expect(await cache('on')).toMatchObject({ original: 'writeback', current: 'writethrough', pending: true })
})

interface Work {
  reads: number
  readBytes: number
  read: { p50: number | null; p99: number | null }
}

interface DiskStats {
  all: Work
  queues: (Work & { queue: number })[] | null
}

test('stats show by queue what the guest did and how long it took', async () => {
  const read = async () => (await vblk<{ disks: DiskStats[] }>(lab, ['stats', guest.qmp, 'd'])).disks[0]
  const before = await read()
  await guest.check(['dd', 'if=/dev/vda', 'of=/dev/null', 'bs=4k', 'count=256', 'iflag=direct'])
  const after = await read()
  expect((after?.all.reads ?? 0) - (before?.all.reads ?? 0)).toBeGreaterThanOrEqual(256)
  expect((after?.all.readBytes ?? 0) - (before?.all.readBytes ?? 0)).toBeGreaterThanOrEqual(1 << 20)
  expect(after?.queues).toMatchObject([{ queue: 0 }, { queue: 1 }])
  const sum = (disk: DiskStats | undefined) => disk?.queues?.reduce((total, { reads }) => total + reads, 0) ?? 0
  expect(sum(after) - sum(before)).toBeGreaterThanOrEqual(256)
  const { p50, p99 } = after?.all.read ?? {}
  expect(p50).toBeGreaterThan(0)
  expect(p99).toBeGreaterThanOrEqual(p50 ?? 0)

  const metrics = await lab.check(['vblk', 'stats', guest.qmp, '--format', 'openmetrics'])
  expect(metrics).toMatch(/^vblk_kernel_datapath\{vm="[^"]+",disk="d"\} 1$/m)
  const buckets = [...metrics.matchAll(/_bucket\{[^}]*queue="0",op="read",le="([^"]+)"\} (\d+)$/gm)]
  expect(buckets.at(-1)?.[1]).toBe('+Inf')
  const counts = buckets.map(([, , count]) => Number(count))
  expect(counts).toEqual([...counts].sort((a, b) => a - b))
})

test('a disk of another size than its file had is detached like any other', async () => {
  await vblk(lab, ['detach', guest.qmp, 'd'])
  await guest.awaitDisk('vda', false)
  await lab.check(['truncate', '-s', '16M', image])
})

/** Starts vblk, interrupts it once it shows the wanted line, and returns its exit status and output. */
async function interrupted(argv: string[], when: RegExp) {
  let output = ''
  const collect = (data: Buffer) => {
    output += data
  }
  const command = lab.spawn(['vblk', ...argv], { cwd: '/root', onOutput: collect, onError: collect })
  let isOver = false
  const end = () => {
    isOver = true
  }
  command.exited.then(end, end)
  while (!when.test(output) && !isOver) await sleep(50)
  expect(output).toMatch(when)
  command.kill(2)
  return { exitCode: await command.exited, output }
}

test('Ctrl-C in the middle of an attach removes what was added', async () => {
  // Without a driver in the guest the attach is still waiting when the signal comes.
  await guest.check(['rmmod', 'virtio_blk'])
  const { exitCode, output } = await interrupted(attach(image), /wait/i)
  await guest.check(['insmod', '/lib/modules/virtio_blk.ko'])
  expect({ exitCode, output }).toMatchObject({ exitCode: 130 })
  expect(await nodes()).toEqual([])
  expect(await disks()).toEqual([])
})

test('Ctrl-C in the middle of a detach says that it is pending', async () => {
  await vblk(lab, attach(image))
  await guest.awaitDisk('vda')
  await guest.ask('stop')
  const { exitCode, output } = await interrupted(['detach', guest.qmp, 'd'], /wait/i)
  expect({ exitCode, output }).toMatchObject({ exitCode: 6 })
  expect(output).toContain('vblk detach')
  await guest.ask('cont')
  await vblk(lab, ['detach', guest.qmp, 'd', '--timeout', '60'])
  expect(await nodes()).toEqual([])
})
