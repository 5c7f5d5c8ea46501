// SPDX-License-Identifier: GPL-2.0-or-later
// Every way in which QEMU moves a VM, in every direction between the datapaths, and every way in which it may end: under a
// verifying load, with the guest's write cache off. What this QEMU can't do stands in the table in its own words.
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import type { Guest } from '../lab/guest.ts'
import { Lab } from '../lab/lab.ts'
import { Disk, eventually, makeImage, startGuest } from './disk.ts'

jest.setTimeout(300_000)

const long = process.env.VBLK_LONG === '1'

type Driver = 'vhost-blk-pci' | 'virtio-blk-pci'

const kinds = ['pre-copy', 'multifd', 'postcopy', 'file', 'cpr-reboot', 'background-snapshot'] as const
type Kind = (typeof kinds)[number]

const outcomes = [
  'completed',
  'cancelled in setup',
  'cancelled while active',
  'cancelled before the switchover',
  'destination killed while active',
  'destination killed before the switchover',
] as const
type Outcome = (typeof outcomes)[number]

const directions: [Driver, Driver][] = [
  ['vhost-blk-pci', 'vhost-blk-pci'],
  ['vhost-blk-pci', 'virtio-blk-pci'],
  ['virtio-blk-pci', 'vhost-blk-pci'],
]

/** What QEMU 10.0 answers to a combination that it doesn't have. */
const refusals: Partial<Record<Kind, Partial<Record<Outcome, RegExp>>>> = {
  'background-snapshot': {
    'cancelled before the switchover': /Background-snapshot is not compatible with pause-before-switchover/,
  },
}

/** A file is open at once, so there is no setup to be met, and has no destination that could die. */
const toFile = (kind: Kind) => ['file', 'cpr-reboot', 'background-snapshot'].includes(kind)

interface Cell {
  from: Driver
  to: Driver
  kind: Kind
  outcome: Outcome
}

const inShort = ({ from, to, kind, outcome }: Cell) =>
  kind === 'pre-copy'
    ? from === to && outcome !== 'completed' && outcome !== 'cancelled before the switchover'
    : outcome === 'completed' &&
      (kind === 'postcopy' ? from === to : (from !== to) === (kind === 'multifd' || kind === 'file'))

/** In an order in which each completed cell leaves the VM where the next one begins. */
function cells(): Cell[] {
  const all = directions.flatMap(([from, to]) =>
    kinds.flatMap((kind) =>
      outcomes
        .filter((outcome) => !(toFile(kind) && (outcome.startsWith('destination') || outcome.endsWith('setup'))))
        .map((outcome) => ({ from, to, kind, outcome })),
    ),
  )
  if (long) return all
  const short = all.filter(inShort)
  // There and back with each kind, lest a guest be booted for each way.
  const mixed = kinds.flatMap((kind) => short.filter((cell) => cell.from !== cell.to && cell.kind === kind))
  return [...short.filter(({ from, to }) => from === to), ...mixed]
}

let lab: Lab
let image: string
let guest: Guest
let disk: Disk
let driver: Driver
let generation = 0
const table: string[] = []

beforeAll(async () => {
  lab = await Lab.start()
  image = await makeImage(lab, 'matrix')
  // Where a connection is neither made nor refused: a migration to it stays in its first state.
  await lab.check([
    'sh',
    '-euc',
    'modprobe dummy; ip link add void type dummy; ip addr add 10.99.0.1/24 dev void; ip link set void up; sysctl -qw net.ipv4.tcp_syn_retries=3',
  ])
})

afterAll(async () => {
  await guest?.kill()
  await lab?.stop()
  process.stderr.write(`\n${table.join('\n')}\n`)
})

const capabilities = (of: Guest, names: string[]) =>
  of.ask('migrate-set-capabilities', {
    capabilities: ['pause-before-switchover', 'multifd', 'postcopy-ram', 'background-snapshot', 'events'].map(
      (capability) => ({
        capability,
        state: names.includes(capability),
      }),
    ),
  })

/** The source of a cell: a guest that runs under load, its write cache off, on the given datapath. */
async function begin(wanted: Driver): Promise<void> {
  if (guest && driver !== wanted) {
    await guest.kill()
    guest = undefined as unknown as Guest
  }
  if (!guest) {
    generation++
    driver = wanted
    guest = await startGuest(lab, { name: `matrix-${generation}` })
    await guest.up()
    disk = await Disk.plug(guest, image, { driver })
    await guest.awaitDisk('vda')
    await guest.check(['sh', '-c', 'echo "write through" >/sys/block/vda/cache_type'])
  }
  if (driver === 'vhost-blk-pci') await disk.onKernel()
  await guest.startLoad('/dev/vda', ['-t', '2', '-p', '2000'])
}

/** A QEMU that waits for the VM. Stock virtio-blk takes no write cache from the stream and is given it beforehand. */
async function destination(to: Driver): Promise<[Guest, Disk]> {
  const next = await startGuest(lab, { name: `matrix-${++generation}`, incoming: true })
  const device = to === 'virtio-blk-pci' ? { 'write-cache': 'off' } : {}
  return [next, await Disk.plug(next, image, { driver: to, device })]
}

async function status(of: Guest): Promise<string> {
  const answer = (await of.ask('query-migrate')) as { status?: string; 'error-desc'?: string }
  return answer.status ?? 'none'
}

const reached = async (...wanted: string[]) =>
  await eventually(
    () => status(guest),
    (now) => [...wanted, 'failed', 'completed', 'cancelled'].includes(now),
    60,
  ).then((now) => {
    if (!wanted.includes(now)) throw new Error(`migration: ${now} instead of ${wanted.join(' or ')}`)
  })

const running = async (of: Guest) => ((await of.ask('query-status')) as { running: boolean }).running

/** Starts the migration of a cell, slow if it is to be met while it is active. */
async function start(kind: Kind, outcome: Outcome, uri: string, slow: boolean): Promise<void> {
  const names = {
    'pre-copy': [],
    multifd: ['multifd'],
    postcopy: ['postcopy-ram'],
    file: [],
    'cpr-reboot': [],
    'background-snapshot': ['background-snapshot'],
  }[kind]
  const pause = outcome.endsWith('before the switchover') ? ['pause-before-switchover'] : []
  await capabilities(guest, [...names, ...pause])
  await guest.ask('migrate-set-parameters', {
    'max-bandwidth': slow ? 1 << 20 : 1 << 30,
    // With the usual 300 ms a loaded guest on a slow host may never have so little left as goes through.
    'downtime-limit': slow ? 300 : 10_000,
    mode: kind === 'cpr-reboot' ? 'cpr-reboot' : 'normal',
  })
  await guest.ask('migrate', { uri })
}

/** The VM lives on at the source, as if nothing had been. */
async function stayed(): Promise<void> {
  await eventually(
    () => running(guest),
    (is) => is,
  )
  if (driver === 'vhost-blk-pci') expect((await disk.onKernel()).errors).toBe(0)
}

async function moved(next: Guest, nextDisk: Disk, to: Driver): Promise<void> {
  await eventually(
    () => running(next),
    (is) => is,
    60,
  )
  await guest.kill()
  guest = next
  disk = nextDisk
  driver = to
  if (to === 'vhost-blk-pci') {
    expect(await disk.onKernel()).toMatchObject({ 'running-queues': 1, errors: 0 })
    expect(await disk.get('current-write-cache')).toBe(false)
  }
}

/** Live migration to a QEMU that listens. */
async function live({ to, kind, outcome }: Cell): Promise<void> {
  if (outcome === 'cancelled in setup') {
    await start(kind, outcome, 'tcp:10.99.0.2:1', false)
    expect(await status(guest)).toBe('setup')
    await guest.ask('migrate_cancel')
    await reached('cancelled')
    await stayed()
    // The end of the attempt would be taken for that of the next migration.
    const attempts = () => lab.check(['ss', '-tnH', 'state', 'syn-sent', 'dst', '10.99.0.2'])
    await eventually(attempts, (left) => left.trim() === '', 60)
    return
  }
  const [next, nextDisk] = await destination(to)
  const names = kind === 'multifd' ? ['multifd'] : kind === 'postcopy' ? ['postcopy-ram'] : []
  await capabilities(next, names)
  const uri = `unix:/run/guests/${next.name}/migration.sock`
  await next.ask('migrate-incoming', { uri })
  const while_ = outcome.endsWith('while active')
  await start(kind, outcome, uri, while_ || (kind === 'postcopy' && outcome === 'completed'))
  if (outcome === 'completed') {
    if (kind === 'postcopy') {
      await reached('active')
      await guest.ask('migrate-start-postcopy')
      await reached('postcopy-active', 'completed')
      await guest.ask('migrate-set-parameters', { 'max-postcopy-bandwidth': 0, 'max-bandwidth': 1 << 30 })
    }
    await reached('completed')
    return await moved(next, nextDisk, to)
  }
  await reached(while_ ? 'active' : 'pre-switchover')
  if (!while_ && driver === 'vhost-blk-pci')
    expect(await disk.state()).toMatchObject({ active: false, 'running-queues': 0 })
  if (outcome.startsWith('cancelled')) {
    await guest.ask('migrate_cancel')
    await reached('cancelled')
    await next.kill()
  } else {
    await next.kill()
    if (!while_) await guest.ask('migrate-continue', { state: 'pre-switchover' })
    await reached('failed')
  }
  await stayed()
}

/** Saved to a file, and restored from it by another QEMU. */
async function byFile({ to, kind, outcome }: Cell): Promise<void> {
  const file = '/var/lib/device-test/matrix.state'
  await start(kind, outcome, `file:${file}`, outcome === 'cancelled while active')
  if (outcome !== 'completed') {
    await reached(outcome === 'cancelled while active' ? 'active' : 'pre-switchover')
    await guest.ask('migrate_cancel')
    await reached('cancelled')
    // A VM that was stopped for it from the beginning stays so.
    if (!(await running(guest))) await guest.ask('cont')
    return await stayed()
  }
  await reached('completed')
  if (kind === 'background-snapshot') {
    // The VM runs on, and its disk with it: the state is of a past that the disk no longer has.
    await lab.check(['test', '-s', file])
    return await stayed()
  }
  await guest.kill()
  const [next, nextDisk] = await destination(to)
  if (kind === 'cpr-reboot') await next.ask('migrate-set-parameters', { mode: 'cpr-reboot' })
  await next.ask('migrate-incoming', { uri: `file:${file}` })
  await next.until('query-migrate', (reply) => (reply as { status?: string }).status === 'completed')
  if (!(await running(next))) await next.ask('cont')
  await moved(next, nextDisk, to)
}

const name = (of: Driver) => of.replace('-pci', '')

test.each(
  cells().map((cell) => [`${name(cell.from)} to ${name(cell.to)}, ${cell.kind}: ${cell.outcome}`, cell] as const),
)('%s', async (title, cell) => {
  const refusal = refusals[cell.kind]?.[cell.outcome]
  let words = 'as it should'
  await begin(cell.from)
  try {
    await (toFile(cell.kind) ? byFile(cell) : live(cell))
    if (refusal) throw new Error('it worked, which it is not known for')
  } catch (error) {
    words = (error as Error).message.split('\n')[0] ?? ''
    if (!refusal?.test(words)) {
      table.push(`${title}: FAILED: ${words}`)
      const log = await guest.qemuLog()
      // The next cell begins with another guest.
      await guest.kill()
      guest = undefined as unknown as Guest
      throw new Error(`${(error as Error).message}\n${log}`)
    }
  }
  const verdict = await guest.stopLoad()
  table.push(`${title}: ${words}; ${verdict}`)
  expect(verdict).toContain('vload: ok')
  expect((await guest.check(['cat', '/sys/block/vda/cache_type'])).trim()).toBe('write through')
  expect(await lab.kernelWarnings()).toEqual([])
})
