// SPDX-License-Identifier: GPL-2.0-or-later
// stats on a QEMU without a kernel datapath: a client of its NBD server makes the disk work. test/cli has the kernel's part.

import { join } from 'node:path'
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import type { StatsReading } from '../../src/commands/stats.ts'
import type { Envelope } from '../lab/vblk.ts'
import { makeFolder, makeImage, Qemu, removeFolder, startVblk, vblk } from './qemu.ts'

jest.setTimeout(120_000)

let dir: string
let qemu: Qemu

beforeAll(async () => {
  dir = await makeFolder()
  const image = await makeImage(join(dir, 'disk.raw'))
  qemu = await Qemu.start(dir, 'vm', {
    args: [
      ...['-blockdev', `raw,node-name=n0,file.driver=file,file.filename=${image}`],
      ...['-device', 'virtio-blk-pci,drive=n0,id=d1'],
    ],
  })
})

afterAll(async () => {
  await qemu?.stop()
  await removeFolder(dir)
})

/** A request of the disk's own device, as the guest's would be: unlike `read`, `aio_read` is counted. */
async function read(bytes: number): Promise<void> {
  const args = { 'command-line': `qemu-io -d /machine/peripheral/d1/virtio-backend "aio_read -q 0 ${bytes}"` }
  await qemu.qmp.execute('human-monitor-command' as 'cont', args as unknown as Record<string, never>)
}

test('tells what the disk has done', async () => {
  const before = (await vblk<StatsReading>(['stats', qemu.socket, 'd1'])).envelope.result?.disks[0]?.all
  await read(65536)
  const { exitCode, envelope } = await vblk<StatsReading>(['stats', qemu.socket])
  expect(exitCode).toBe(0)
  expect(envelope.warnings).toEqual([])
  const [disk] = envelope.result?.disks ?? []
  expect(disk).toMatchObject({ id: 'd1', queues: null, all: { writes: 0, errors: 0 } })
  expect((disk?.all.readBytes ?? 0) - (before?.readBytes ?? 0)).toBeGreaterThanOrEqual(65536)
  const { stdout } = await vblk(['stats', qemu.socket], { text: true })
  expect(stdout).toMatch(/^DISK +QUEUE +DATAPATH +READS +WRITES +FLUSHES +READ +WRITTEN +READ AVG +P50 /)
  expect(stdout.split('\n')[1]).toMatch(/^d1 +all +(idle|userspace) /)
})

test('--watch tells what was done in between, a document each', async () => {
  const watching = startVblk<unknown>(['stats', qemu.socket, '--watch', '--interval', '0.5', '--count', '3'], {
    text: true,
  })
  const outcome = await watching.outcome
  expect({ exitCode: outcome.exitCode, stderr: outcome.stderr }).toEqual({ exitCode: 0, stderr: '' })
  expect(outcome.stdout.match(/^DISK.*READS\/S/gm)).toHaveLength(3)

  const json = startVblk(['stats', qemu.socket, '--watch', '--interval', '0.3', '--count', '2', '--json'], {
    text: true,
  })
  const documents = (await json.outcome).stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Envelope<StatsReading>)
  expect(documents).toHaveLength(3)
  for (const { ok, result } of documents.slice(0, 2)) {
    expect({ ok, seconds: result?.seconds }).toEqual({ ok: true, seconds: expect.any(Number) })
    expect(result?.seconds).toBeGreaterThan(0.25)
  }
  expect(documents[2]).toMatchObject({ ok: true, result: { readings: 2 } })
})

test('--watch ends with --timeout, and with the VM', async () => {
  const timed = await vblk(['stats', qemu.socket, '--watch', '--timeout', '0.5', '--interval', '1'])
  expect(timed).toMatchObject({ exitCode: 0, envelope: { result: { readings: 0 } } })
  const other = await Qemu.start(dir, 'other')
  const watching = startVblk(['stats', other.socket, '--watch', '--interval', '0.2'], { text: true })
  await new Promise((resolve) => watching.process.stdout?.once('data', resolve))
  await other.stop()
  expect(await watching.outcome).toMatchObject({ exitCode: 3, stderr: expect.stringContaining('QEMU has ended') })
})

test('--format openmetrics', async () => {
  const { exitCode, stdout } = await vblk(['stats', qemu.socket, '--format', 'openmetrics'], { text: true })
  expect(exitCode).toBe(0)
  expect(stdout).toMatch(/^# TYPE vblk_requests counter\n# HELP vblk_requests [^\n]+\nvblk_requests_total\{vm="/)
  expect(stdout).toMatch(/\n# EOF\n$/)
})

test.each([
  [['--count', '2']],
  [['--interval', '1']],
  [['--watch', '--interval', '0']],
  [['--watch', '--count', '0']],
  [['--watch', '--format', 'openmetrics']],
  [['--format', 'csv']],
])('nonsense is refused: %p', async (flags) => {
  expect((await vblk(['stats', qemu.socket, ...flags])).exitCode).toBe(2)
})

test('what is not there is not found', async () => {
  expect((await vblk(['stats', qemu.socket, 'absent'])).exitCode).toBe(3)
  expect((await vblk(['stats', join(dir, 'none.sock')])).exitCode).toBe(3)
})
