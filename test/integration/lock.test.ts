// SPDX-License-Identifier: GPL-2.0-or-later
// Two vblk on one VM, each with a monitor of its own.

import { chmod } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import { makeFolder, makeImage, Qemu, removeFolder, startVblk, vblk } from './qemu.ts'

jest.setTimeout(120_000)

let dir: string
let image: string
let qemu: Qemu
let second: string

beforeAll(async () => {
  dir = await makeFolder()
  image = await makeImage(join(dir, 'disk.raw'))
  second = join(dir, 'second.sock')
  // Nobody answers an unplug here, so a detach lasts as long as its --timeout.
  qemu = await Qemu.start(dir, 'vm', { args: ['-qmp', `unix:${second},server=on,wait=off`] })
  expect((await vblk(['attach', qemu.socket, image, '--id', 'd1', '--datapath', 'userspace'])).exitCode).toBe(0)
})

afterAll(async () => {
  await qemu?.stop()
  await removeFolder(dir)
})

const attachSecond = () => vblk(['attach', second, image, '--id', 'd2', '--datapath', 'userspace', '--dry-run'])

/** Starts a detach that lasts so many seconds; returns when it has asked QEMU, and so holds the lock. */
async function startDetach(seconds: number) {
  const running = startVblk(['detach', qemu.socket, 'd1', '--timeout', String(seconds), '--verbose'])
  await new Promise<void>((resolve, reject) => {
    let said = ''
    running.process.stderr?.on('data', (chunk) => {
      said += chunk
      if (said.includes('"device_del"')) resolve()
    })
    running.process.once('exit', () => reject(new Error(`the detach ended: ${said}`)))
  })
  return running
}

test('while one changes a VM another is told so, by any socket, and may still look', async () => {
  const first = await startDetach(5)
  const refused = await attachSecond()
  expect(refused).toMatchObject({ exitCode: 9, envelope: { error: { code: 'VM_LOCKED' } } })
  expect(refused.envelope.error?.details).toEqual({ pid: first.process.pid })
  expect(refused.envelope.error?.message).toContain(`process ${first.process.pid}`)
  expect((await vblk(['list', second])).exitCode).toBe(0)

  expect((await first.outcome).exitCode).toBe(6)
  expect(await attachSecond()).toMatchObject({ exitCode: 0, envelope: { warnings: [] } })
})

test('a vblk that is killed leaves no lock', async () => {
  const first = await startDetach(60)
  expect((await attachSecond()).exitCode).toBe(9)
  first.process.kill('SIGKILL')
  await first.outcome.catch(() => {})
  expect((await attachSecond()).exitCode).toBe(0)
})

test('two VMs do not disturb each other', async () => {
  const other = await Qemu.start(dir, 'other')
  const first = await startDetach(5)
  const beside = await vblk(['attach', other.socket, image, '--id', 'd1', '--datapath', 'userspace', '--dry-run'])
  expect(beside.exitCode).toBe(0)
  expect((await first.outcome).exitCode).toBe(6)
  await other.stop()
})

test('who may not look into the process works without a lock, and says so', async () => {
  await chmod(second, 0o666)
  const { exitCode, envelope } = await vblk(['detach', second, 'absent'], { uid: 65534 })
  expect({ exitCode, envelope }).toMatchObject({ exitCode: 0, envelope: { result: { changed: false } } })
  expect(envelope.warnings).toEqual([expect.stringContaining(`${second} is not locked against another vblk: EACCES`)])
})
