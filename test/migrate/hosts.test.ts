// SPDX-License-Identifier: GPL-2.0-or-later
// A VM moves from one host to another, with a disk that both see: one case of each kind, with real hosts, ssh and a guest under load.

import { afterAll, afterEach, beforeAll, expect, jest, test } from '@jest/globals'
import type { MigrationRecord } from '../../src/migration/journal/record.ts'
import type { Recovered } from '../../src/migration/recover.ts'
import type { MigratedVm } from '../../src/migration/result.ts'
import { Guest } from '../lab/guest.ts'
import type { Lab } from '../lab/lab.ts'
import { TwoHosts } from '../lab/two-hosts.ts'
import { tryVblk, vblk } from '../lab/vblk.ts'

jest.setTimeout(480_000)

/** Two hosts are emulated at once: vblk alone takes seconds to start. */
const vblkMs = 400_000

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

let pair: TwoHosts
let guest: Guest
let started = 0

beforeAll(async () => {
  pair = await TwoHosts.start({ diskSize: 16 })
  await Promise.all([pair.one, pair.two].map((lab) => lab.check(['modprobe', 'vhost_blk'])))
  guest = await Guest.start(pair.one, { name: 'vm' })
  await guest.up()
  await vblk(pair.one, ['attach', guest.qmp, pair.disk, '--id', 'data', '--datapath', 'kernel', '--raw'])
  await guest.awaitDisk('vda')
  await guest.check(['sh', '-c', 'echo "write through" >/sys/block/vda/cache_type'])
  await guest.startLoad('/dev/vda', ['-t', '1', '-p', '50000'])
}, 300_000)

afterEach(async () => {
  expect([...(await pair.kernelWarnings()), ...(await guest.kernelWarnings())]).toEqual([])
})

afterAll(() => pair?.stop())

const incoming = (args: string[] = []) =>
  Guest.start(pair.two, { name: `there${++started}`, incoming: true, ...(args.length > 0 && { args }) })

const there = (destination: Guest) => `ssh://two${destination.qmp}`
const migrate = (destination: Guest, ...options: string[]) =>
  tryVblk<MigratedVm>(pair.one, ['migrate', guest.qmp, there(destination), ...options], vblkMs)
const slow = ['--bandwidth', '500000']

/** The journal of a host: the phase of each migration that it knows of, oldest first. */
async function phases(lab: Lab): Promise<string[]> {
  const read = 'for f in /var/lib/vblk/migrations/*.json; do tr -d "\\n" <"$f"; echo; done'
  const records = (await lab.check(['sh', '-c', read])).trim().split('\n')
  const parsed: MigrationRecord[] = records.map((record) => JSON.parse(record))
  const start = ({ entered }: MigrationRecord) => entered[0]?.at ?? ''
  return parsed.sort((a, b) => start(a).localeCompare(start(b))).map(({ phase }) => phase)
}

/** The VM is on this host, and the kernel goes on serving its load. */
async function expectServed(): Promise<void> {
  const path = '/machine/peripheral/data'
  const requests = async () => {
    const state = (await guest.ask('qom-get', { path, property: 'vhost-state' })) as { requests: number }
    return Number(state.requests)
  }
  const before = await requests()
  for (const end = Date.now() + 60_000; Date.now() < end; await pause(200)) if ((await requests()) > before) return
  throw new Error(`the kernel has served no request beyond ${before}`)
}

/** Until memory is on its way: the checks before take their time on two emulated hosts. */
async function copying(): Promise<void> {
  let status: string | undefined
  for (const end = Date.now() + 150_000; Date.now() < end; await pause(200)) {
    status = ((await guest.ask('query-migrate')) as { status?: string }).status
    if (status === 'active') return
  }
  throw new Error(`the VM is not being copied: ${status}`)
}

const long = process.env.VBLK_LONG ? test : test.skip

long('a disk that the other host does not share is refused before anything is changed', async () => {
  for (const lab of [pair.one, pair.two]) await lab.check(['truncate', '-s', '8M', '/root/local.raw'])
  await vblk(pair.one, ['attach', guest.qmp, '/root/local.raw', '--id', 'local'])
  const destination = await incoming()
  const refused = await tryVblk(pair.one, ['migrate', 'preflight', guest.qmp, there(destination)])
  expect(refused).toMatchObject({ exitCode: 5, error: { code: 'DISK_NOT_SHARED' } })
  expect(refused.error?.message).toBe('local: /root/local.raw on this host: it is on ext4, which no two hosts share')
  await vblk(pair.one, ['detach', guest.qmp, 'local'])
  await destination.kill()
})

long('one whose destination dies is rolled back, and both journals say so', async () => {
  const destination = await incoming()
  const outcome = migrate(destination, ...slow)
  await copying()
  expect([(await phases(pair.one)).at(-1), (await phases(pair.two)).at(-1)]).toEqual(['copy', 'copy'])
  await destination.kill()
  expect(await outcome).toMatchObject({ exitCode: 7, error: { code: 'MIGRATION_ROLLED_BACK' } })
  await expectServed()
  expect([(await phases(pair.one)).at(-1), (await phases(pair.two)).at(-1)]).toEqual(['rolled-back', 'rolled-back'])
})

long('one whose vblk is killed is rolled back from the destination host, and the VM goes on where it was', async () => {
  const destination = await incoming()
  const outcome = migrate(destination, ...slow).catch((error: Error) => error)
  await copying()
  await pair.one.check(['pkill', '-KILL', '-f', '^[^ ]*node .*vblk migrate'])
  await outcome
  expect([(await phases(pair.one)).at(-1), (await phases(pair.two)).at(-1)]).toEqual(['copy', 'copy'])
  const recovered = await vblk<Recovered>(pair.two, ['migrate', 'recover', '--peer', 'one'], vblkMs)
  expect(recovered).toMatchObject({ owner: 'source', vm: 'running', message: 'rolled back to the source' })
  expect(await destination.alive()).toBe(false)
  await expectServed()
  expect([(await phases(pair.one)).at(-1), (await phases(pair.two)).at(-1)]).toEqual(['rolled-back', 'rolled-back'])
})

test('the VM goes on at the other host, and the disk holds what its load wrote on both', async () => {
  const source = guest
  const destination = await incoming()
  const { warnings, result, error } = await migrate(destination, '--datapath', 'kernel')
  expect({ warnings, result, error }).toMatchObject({
    warnings: [],
    error: undefined,
    result: {
      status: 'running',
      source: 'quit',
      disks: [
        {
          id: 'data',
          datapath: { before: 'kernel', after: 'kernel' },
          writeCache: { original: 'writeback', before: 'writethrough', after: 'writethrough' },
        },
      ],
    },
  })
  guest = destination
  expect(await source.alive()).toBe(false)
  await expectServed()
  expect(await guest.stopLoad()).toMatch(/^vload: ok writes=\d+ reads=\d+ flushes=\d+ errors=0$/)
  const hash = 'dd if="$1" bs=1M iflag=direct 2>/dev/null | sha256sum | cut -d" " -f1'
  const seen = await guest.check(['sh', '-c', hash, 'sh', '/dev/vda'])
  for (const lab of [pair.one, pair.two]) expect(await lab.check(['sh', '-c', hash, 'sh', pair.disk])).toBe(seen)
  expect([(await phases(pair.one)).at(-1), (await phases(pair.two)).at(-1)]).toEqual(['done', 'done'])
})
