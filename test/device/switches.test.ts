// SPDX-License-Identifier: GPL-2.0-or-later
// A running disk switches again and again under a verifying load, by itself and by command, with everything in between for
// which a disk steps to userspace.
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import type { Guest } from '../lab/guest.ts'
import { Lab } from '../lab/lab.ts'
import { Disk, eventually, makeImage, startGuest } from './disk.ts'

const long = process.env.VBLK_LONG === '1'
const switches = long ? 1000 : 50
/** Something else happens after so many switches. */
const every = long ? 20 : 6

jest.setTimeout(long ? 1_800_000 : 240_000)

let lab: Lab
let guest: Guest
let disk: Disk
let copies = 0

beforeAll(async () => {
  lab = await Lab.start()
  guest = await startGuest(lab, { name: 'switches' })
  await guest.up()
  disk = await Disk.plug(guest, await makeImage(lab, 'switches', 16))
  await guest.awaitDisk('vda')
})

afterAll(async () => {
  await guest?.kill()
  await lab?.stop()
})

const hmp = async (line: string) => (await guest.ask('human-monitor-command', { 'command-line': line })) as string
const jobs = async () => (await guest.ask('query-block-jobs')) as { ready: boolean; status: string }[]
const noJobs = () => eventually(jobs, (all) => all.length === 0, 60)
const qdev = () => `/machine/peripheral/${disk.id}/virtio-backend`

/** Adds an empty image of the disk's size, in qcow2 if it is to be an overlay. */
async function addCopy(format: 'raw' | 'qcow2'): Promise<string> {
  const name = `copy${copies++}`
  const path = `/var/lib/device-test/${name}`
  await lab.check(['qemu-img', 'create', '-q', '-f', format, path, '16M'])
  await guest.ask('blockdev-add', { driver: format, 'node-name': name, file: { driver: 'file', filename: path } })
  return name
}

/** Each leaves the disk as it found it. */
const events: [string, () => Promise<void>][] = [
  [
    'a mirror, cancelled',
    async () => {
      const target = await addCopy('raw')
      await guest.ask('blockdev-mirror', { 'job-id': 'job', device: 'raw0', target, sync: 'full' })
      await disk.onUserspace('mirror')
      await guest.ask('block-job-cancel', { device: 'job', force: true })
      await noJobs()
      await guest.ask('blockdev-del', { 'node-name': target })
    },
  ],
  [
    'a backup',
    async () => {
      const target = await addCopy('raw')
      await guest.ask('blockdev-backup', { 'job-id': 'job', device: 'raw0', target, sync: 'full' })
      await noJobs()
      await guest.ask('blockdev-del', { 'node-name': target })
    },
  ],
  [
    'a snapshot, committed back',
    async () => {
      const overlay = await addCopy('qcow2')
      await guest.ask('blockdev-snapshot', { node: 'raw0', overlay })
      await disk.onUserspace('qcow2')
      await guest.ask('block-commit', { 'job-id': 'job', device: overlay })
      await eventually(jobs, ([job]) => job?.ready === true, 60)
      await guest.ask('block-job-complete', { device: 'job' })
      await noJobs()
      await guest.ask('blockdev-del', { 'node-name': overlay })
    },
  ],
  [
    'a dirty bitmap',
    async () => {
      await guest.ask('block-dirty-bitmap-add', { node: 'raw0', name: 'bitmap' })
      await disk.onUserspace('dirty bitmap')
      await guest.ask('block-dirty-bitmap-remove', { node: 'raw0', name: 'bitmap' })
    },
  ],
  [
    'a bitmap in a transaction',
    async () => {
      const actions = [{ type: 'block-dirty-bitmap-add', data: { node: 'raw0', name: 'bitmap' } }]
      await guest.ask('transaction', { actions })
      await disk.onUserspace('dirty bitmap')
      await guest.ask('block-dirty-bitmap-remove', { node: 'raw0', name: 'bitmap' })
    },
  ],
  [
    'throttling by HMP',
    async () => {
      await hmp(`block_set_io_throttle ${qdev()} 0 0 0 2000 0 0`)
      await disk.onUserspace('throttled')
      await hmp(`block_set_io_throttle ${qdev()} 0 0 0 0 0 0`)
    },
  ],
  [
    'a read and a flush by HMP',
    async () => {
      expect(await hmp('qemu-io raw0 "read -q 0 64k"')).toBe('')
      expect(await hmp('qemu-io raw0 "flush"')).toBe('')
    },
  ],
  [
    'stop and cont',
    async () => {
      await guest.ask('stop')
      await disk.set('vhost-active', false)
      await disk.set('vhost-active', true)
      await guest.ask('cont')
    },
  ],
]

test(`${switches} switches, and what makes a disk step aside in between, lose nothing`, async () => {
  await guest.startLoad('/dev/vda', ['-t', '4'])
  const before = (await disk.onKernel()).requests
  let happened = 0
  for (let i = 1; i <= switches; i++) {
    await disk.set('vhost-active', i % 2 === 0)
    if (i % every) continue
    const [what, act] = events[happened++ % events.length] ?? ['', async () => {}]
    await disk.set('vhost-active', true)
    await disk.onKernel()
    try {
      await act()
    } catch (error) {
      throw new Error(`after ${i} switches, ${what}: ${(error as Error).message}\n${await guest.qemuLog()}`)
    }
    await disk.onKernel()
  }
  expect(happened).toBeGreaterThanOrEqual(events.length)
  await disk.set('vhost-active', true)
  expect((await disk.onKernel()).requests).toBeGreaterThan(before)
  expect(await guest.stopLoad()).toContain('vload: ok')
  expect(await disk.state()).toMatchObject({ active: true, errors: 0, inflight: 0 })
  expect(await guest.kernelWarnings()).toEqual([])
  expect(await lab.kernelWarnings()).toEqual([])
})
