// SPDX-License-Identifier: GPL-2.0-or-later
// QEMUs that may not open the image: vblk passes it to the destination as it did to the source.

import { closeSync, openSync } from 'node:fs'
import { chmod } from 'node:fs/promises'
import { afterAll, afterEach, beforeAll, beforeEach, expect, jest, test } from '@jest/globals'
import { sendFds } from '../../src/host/fd.ts'
import { QmpClient } from '../../src/qmp/index.ts'
import { Bench, fullState, migrate } from './migration.ts'
import { type Qemu, vblk } from './qemu.ts'

jest.setTimeout(120_000)

let bench: Bench
let image: string
let source: Qemu
let destination: Qemu

const unprivileged = ['-run-with', 'user=nobody', '-sandbox', 'on,obsolete=deny,spawn=deny,resourcecontrol=deny']

beforeAll(async () => {
  bench = await Bench.create()
  image = await bench.image('private.raw')
  await chmod(image, 0o600)
})
beforeEach(async () => {
  source = await bench.source(image, ['--pass-fd'], unprivileged)
  destination = await bench.incoming({ args: unprivileged })
})
afterEach(async () => {
  await bench.stopAll()
  expect(await bench.leftovers()).toEqual([])
})
afterAll(() => bench?.remove())

async function labels({ qmp }: Qemu): Promise<(string | undefined)[]> {
  return (await qmp.execute('query-fdsets')).flatMap(({ fds }) => fds.map(({ opaque }) => opaque))
}

test('the destination gets descriptors of its own, and its disk can be moved on', async () => {
  const { exitCode, envelope } = await migrate(source.socket, destination.socket)
  expect([exitCode, envelope.error, envelope.warnings]).toEqual([0, undefined, []])
  expect(await labels(destination)).toEqual([`vblk:d1:image:${image}`])
  const list = await vblk<{ disks: unknown[] }>(['list', destination.socket])
  expect(list.envelope.result?.disks).toMatchObject([{ id: 'd1', file: image, sizeBytes: 8 << 20 }])

  const next = await bench.incoming({ args: unprivileged })
  expect((await migrate(destination.socket, next.socket)).exitCode).toBe(0)
  expect(await labels(next)).toEqual([`vblk:d1:image:${image}`])
})

test('a migration that is prepared and then aborted leaves no descriptor at the destination', async () => {
  const there = await fullState(destination)
  const prepared = await vblk<{ migration: string }>(['migrate', 'prepare', source.socket, destination.socket])
  expect([prepared.exitCode, await labels(destination)]).toEqual([0, [`vblk:d1:image:${image}`]])
  expect((await vblk(['migrate', 'abort', prepared.envelope.result?.migration ?? ''])).exitCode).toBe(0)
  expect(await labels(destination)).toEqual([])
  expect(await fullState(destination)).toEqual(there)
})

test("a QEMU's word that it was passed a file opens none that it does not have", async () => {
  const secret = await bench.image('secret.raw')
  const client = await QmpClient.connect({ path: source.socket, sendFds })
  await client.execute('remove-fd', { 'fdset-id': 0 })
  const fd = openSync(image, 'r+')
  await client.execute('add-fd', { 'fdset-id': 0, opaque: `vblk:d1:image:${secret}` }, { fds: [fd] })
  closeSync(fd)
  await client.close()
  const { exitCode, envelope } = await migrate(source.socket, destination.socket)
  expect([exitCode, envelope.error?.code]).toEqual([5, 'IMAGE_NOT_PASSED'])
  expect(envelope.error?.message).toContain(`it does not have ${secret} open`)
  expect(await labels(destination)).toEqual([])
})
