// SPDX-License-Identifier: GPL-2.0-or-later
// A VM is saved into and loaded from an internal snapshot (QMP snapshot-save, snapshot-load) while it reads a disk that the
// kernel serves. The state goes into a qcow2 node; a raw image can have no snapshot, so the disk is
// read-only and not among the devices of which one is made.
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import type { Guest } from '../lab/guest.ts'
import { Lab } from '../lab/lab.ts'
import { Disk, eventually, makeImage, startGuest } from './disk.ts'

jest.setTimeout(300_000)

let lab: Lab
let guest: Guest
let disk: Disk

/** Reads the whole disk again and again, past the guest's cache; counts in a file how often it was as it should be. */
const reader = `
while [ "$(dd if=/dev/vda bs=65536 iflag=direct 2>/dev/null | sha256sum)" = "$1" ]; do echo >>/run/rounds; done
echo >/run/bad`

beforeAll(async () => {
  lab = await Lab.start()
  const image = await makeImage(lab, 'snapshot', 4)
  await lab.check(['dd', 'if=/dev/urandom', `of=${image}`, 'bs=1M', 'count=4', 'conv=notrunc,fsync', 'status=none'])
  const sum = (await lab.check(['sh', '-c', 'sha256sum <"$1"', 'sh', image])).trim()
  const state = '/var/lib/device-test/snapshot.qcow2'
  await lab.check(['qemu-img', 'create', '-q', '-f', 'qcow2', state, '1G'])
  guest = await startGuest(lab, { name: 'snapshot' })
  await guest.up()
  const file = { driver: 'file', filename: state }
  await guest.ask('blockdev-add', { driver: 'qcow2', 'node-name': 'state', file })
  const readOnly = { 'read-only': true }
  disk = await Disk.plug(guest, image, { file: readOnly, raw: readOnly })
  await guest.awaitDisk('vda')
  await guest.check(['sh', '-c', 'setsid sh -c "$1" sh "$2" >/dev/null 2>&1 </dev/null &', 'sh', reader, sum])
})

afterAll(async () => {
  await guest?.kill()
  await lab?.stop()
})

const rounds = async () => Number((await guest.check(['sh', '-c', 'cat /run/rounds 2>/dev/null | wc -l'])).trim())
const exists = async (path: string) => (await guest.exec(['test', '-e', path])).exitCode === 0

/** The kernel serves the disk, the guest reads it, and each reading was right. */
async function readsOnKernel(): Promise<void> {
  const { requests } = await disk.onKernel()
  const before = await rounds()
  await eventually(rounds, (now) => now > before + 1, 120)
  expect(await disk.state()).toMatchObject({ active: true, errors: 0 })
  expect((await disk.state()).requests).toBeGreaterThan(requests)
  expect(await exists('/run/bad')).toBe(false)
}

/** Runs a job to its end; returns its error, or undefined. */
async function job(command: 'snapshot-save' | 'snapshot-load', devices: string[]): Promise<string | undefined> {
  await guest.ask(command, { 'job-id': 'job', tag: 'one', vmstate: 'state', devices })
  const [ended] = await eventually(
    async () => (await guest.ask('query-jobs')) as { status: string; error?: string }[],
    (jobs) => jobs.every(({ status }) => status === 'concluded'),
    120,
  )
  await guest.ask('job-dismiss', { id: 'job' })
  return ended?.error
}

test('snapshot-save: the kernel serves before it and after it', async () => {
  await readsOnKernel()
  expect(await job('snapshot-save', ['state'])).toBeUndefined()
  await readsOnKernel()
})

test('snapshot-load: the VM is back in its past, and the kernel serves the disk', async () => {
  await guest.check(['touch', '/run/later'])
  expect(await job('snapshot-load', ['state'])).toBeUndefined()
  expect(await exists('/run/later')).toBe(false)
  await readsOnKernel()
})

const refused = "Device 'raw1' is writable but does not support snapshots"

test('with a writable disk QEMU refuses in its own words, and the kernel serves on', async () => {
  const writable = await Disk.plug(guest, await makeImage(lab, 'snapshot-writable', 8), { index: 1 })
  await guest.awaitDisk('vdb')
  await writable.onKernel()
  await guest.startLoad('/dev/vdb', ['-t', '2'])
  expect(await job('snapshot-save', ['state', 'raw1'])).toBe(refused)
  expect(await guest.ask('human-monitor-command', { 'command-line': 'savevm two' })).toContain(refused)
  const { requests } = await writable.onKernel()
  await eventually(
    () => writable.state(),
    (state) => state.requests > requests,
  )
  expect(await guest.stopLoad()).toContain('vload: ok')
  await readsOnKernel()
  expect(await guest.kernelWarnings()).toEqual([])
  expect(await lab.kernelWarnings()).toEqual([])
})
