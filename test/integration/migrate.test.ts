// SPDX-License-Identifier: GPL-2.0-or-later

import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals'
import { attachDisk, Bench, firmwareDrives, fullState, hasEnded, type Migrated, migrate } from './migration.ts'
import { vblk } from './qemu.ts'

jest.setTimeout(120_000)

let bench: Bench
let image: string

beforeAll(async () => {
  bench = await Bench.create()
  image = await bench.image('disk.raw')
})
afterEach(async () => {
  await bench.stopAll()
  expect(await bench.leftovers()).toEqual([])
})
afterAll(() => bench?.remove())

/** A disk d0 from the command line. */
const cold = (type: string, ...properties: string[]) => [
  '-blockdev',
  `driver=raw,node-name=n,file.driver=file,file.filename=${image}`,
  '-device',
  [type, 'id=d0', 'drive=n', 'bus=rp1', ...properties].join(','),
]

const noKvm = 'the VM runs without KVM'

describe('migrate', () => {
  test('makes the disks on the destination, moves the VM and ends the source', async () => {
    const source = await bench.source(image, ['--serial', 'S 1', '--queues', '2', '--bus', 'rp2'])
    await attachDisk(source, 'd2', await bench.image('second.raw'), '--read-only', '--cache', 'writeback')
    const before = await source.state()
    const destination = await bench.incoming()
    const capabilities = (await fullState(destination)).capabilities
    const { exitCode, envelope } = await migrate(source.socket, destination.socket)
    const disk = {
      datapath: { before: 'idle', after: 'idle' },
      writeCache: { original: 'writeback', before: 'writeback', after: 'writeback' },
      kernelRequests: { before: 0, after: 0 },
      reason: noKvm,
    }
    expect(envelope).toEqual({
      ok: true,
      result: {
        vm: source.socket,
        destination: destination.socket,
        status: 'running',
        downtimeMs: expect.any(Number),
        downtimePhases: expect.any(Object),
        totalMs: expect.any(Number),
        ramBytes: expect.any(Number),
        backendStoppedBeforeSave: true,
        disks: [
          { id: 'd1', ...disk },
          { id: 'd2', ...disk },
        ],
        postcopy: false,
        source: 'quit',
      },
      warnings: [],
    })
    expect(exitCode).toBe(0)
    const { downtimeMs, downtimePhases, ramBytes } = envelope.result as Migrated
    expect(downtimeMs).toBeGreaterThan(0)
    expect(Object.keys(downtimePhases ?? {})).toEqual(['drain', 'check', 'save', 'load', 'verify', 'start'])
    const lengths = Object.values(downtimePhases ?? {})
    expect(lengths.reduce((sum, ms) => sum + ms, 0)).toBeCloseTo(downtimeMs ?? 0, 3)
    expect(Math.min(...lengths)).toBeGreaterThanOrEqual(0)
    // Saving is done by QEMU, and none of it is done in no time.
    expect(downtimePhases?.save).toBeGreaterThan(0)
    const history = await vblk<{ migrations: unknown[] }>(['migrate', 'history', '--last', '1'])
    expect(history.envelope.result?.migrations).toMatchObject([{ phase: 'done', downtimeMs, downtimePhases }])
    expect(ramBytes).toBeGreaterThan(0)
    expect(await hasEnded(source)).toBe(true)
    const after = await fullState(destination)
    expect(after).toMatchObject({ ...before, status: 'running', capabilities })
    const list = await vblk<{ disks: unknown[] }>(['list', destination.socket])
    expect(list.envelope.result?.disks).toMatchObject([
      { id: 'd1', file: image, serial: 'S 1', queues: 2, bus: 'rp2', addr: '00.0', cache: 'none', readOnly: false },
      { id: 'd2', bus: 'rp1', cache: 'writeback', readOnly: true },
    ])
  })

  test('carries a write cache that is writethrough', async () => {
    const source = await bench.source(image, ['--write-cache', 'writethrough'])
    const destination = await bench.incoming()
    const { envelope } = await migrate(source.socket, destination.socket)
    expect(envelope.result?.disks).toMatchObject([
      { writeCache: { original: 'writethrough', before: 'writethrough', after: 'writethrough' } },
    ])
  })

  test('leaves a paused VM paused', async () => {
    const source = await bench.source(image)
    await source.qmp.execute('stop')
    const destination = await bench.incoming()
    const { envelope } = await migrate(source.socket, destination.socket)
    expect(envelope).toMatchObject({ ok: true, result: { status: 'paused', downtimeMs: null, source: 'quit' } })
    expect(await destination.qmp.execute('query-status')).toMatchObject({ status: 'paused', running: false })
  })

  test('carries a write cache that the guest has changed, to a disk that is there already', async () => {
    const source = await bench.start({ args: cold('vhost-blk-pci') })
    await firmwareDrives(source, 'd0')
    const destination = await bench.incoming({ args: cold('vhost-blk-pci') })
    const { envelope } = await migrate(source.socket, destination.socket)
    expect(envelope).toMatchObject({
      ok: true,
      result: {
        disks: [{ id: 'd0', writeCache: { original: 'writeback', before: 'writethrough', after: 'writethrough' } }],
      },
      warnings: [],
    })
  })

  test('leaves the original write cache to the reset that comes after it', async () => {
    const source = await bench.start({ args: cold('vhost-blk-pci') })
    await firmwareDrives(source, 'd0')
    const destination = await bench.incoming({ args: cold('vhost-blk-pci') })
    expect((await migrate(source.socket, destination.socket)).exitCode).toBe(0)
    const cache = async () => (await vblk(['cache', destination.socket, 'd0'])).envelope.result
    expect(await cache()).toMatchObject({ original: 'writeback', current: 'writethrough', pending: true })
    // Stopped, so that the firmware doesn't start the disk again before one looks.
    await destination.qmp.execute('stop')
    const events = destination.qmp.events(({ event }) => event === 'RESET')
    await destination.qmp.execute('system_reset')
    await events.next({ timeoutMs: 60_000 })
    events.close()
    expect(await cache()).toMatchObject({ original: 'writeback', current: 'writeback', pending: false })
  })

  test("moves between QEMU's own virtio-blk and ours", async () => {
    const warning = "d0: QEMU's virtio-blk does not tell its write cache, so it can't be verified"
    const source = await bench.start({ args: cold('virtio-blk-pci') })
    const middle = await bench.incoming({ args: cold('vhost-blk-pci') })
    expect((await migrate(source.socket, middle.socket)).envelope).toMatchObject({
      ok: true,
      result: { disks: [{ id: 'd0', writeCache: { original: null, before: null } }] },
      warnings: [warning],
    })
    const destination = await bench.incoming({ args: cold('virtio-blk-pci', 'write-cache=off') })
    expect((await migrate(middle.socket, destination.socket)).envelope).toMatchObject({
      ok: true,
      result: { disks: [{ id: 'd0', writeCache: { original: 'writeback', after: null } }] },
      warnings: [warning],
    })
    expect(await destination.qmp.execute('query-status')).toMatchObject({ status: 'running' })
  })

  test('can be done again, back and forth', async () => {
    let source = await bench.source(image)
    for (let i = 0; i < 3; i++) {
      const destination = await bench.incoming()
      expect((await migrate(source.socket, destination.socket)).envelope).toMatchObject({ ok: true, warnings: [] })
      source = destination
    }
    expect((await vblk(['detach', source.socket, 'd1', '--timeout', '1'])).exitCode).toBe(6)
  })
})

test('preflight says what would be made, and changes nothing', async () => {
  const source = await bench.source(image)
  const destination = await bench.incoming()
  const before = [await fullState(source), await fullState(destination)]
  const { exitCode, envelope } = await vblk(['migrate', 'preflight', source.socket, destination.socket])
  expect(exitCode).toBe(0)
  expect(envelope).toEqual({
    ok: true,
    result: {
      vm: source.socket,
      destination: destination.socket,
      running: true,
      disks: [{ id: 'd1', datapath: 'idle', made: true }],
    },
    warnings: [],
  })
  const { stdout } = await vblk(['migrate', 'preflight', source.socket, destination.socket], { text: true })
  expect(stdout).toMatch(/ can be moved to .*\n\nDISK .*\nd1 +idle +will be made\n$/)
  expect([await fullState(source), await fullState(destination)]).toEqual(before)
})

describe('options', () => {
  test('--keep-source leaves a source that cannot be resumed', async () => {
    const source = await bench.source(image)
    const { capabilities, parameters } = await fullState(source)
    const destination = await bench.incoming()
    const { envelope } = await migrate(source.socket, destination.socket, '--keep-source', '--downtime-limit', '200')
    expect(envelope).toMatchObject({ ok: true, result: { source: 'kept' } })
    expect(await fullState(source)).toMatchObject({ status: 'postmigrate', capabilities, parameters })
    await expect(source.qmp.execute('cont')).rejects.toThrow(/lock/)
    expect((await migrate(source.socket, (await bench.incoming()).socket)).envelope).toMatchObject({
      error: {
        exitCode: 5,
        message: expect.stringMatching(/postmigrate: it was migrated already/),
      },
    })
  })

  test('--multifd, --compress and --auto-converge hold for this migration, on both sides, and no longer', async () => {
    const source = await bench.source(image)
    const destination = await bench.incoming()
    const before = [await fullState(source), await fullState(destination)]
    const options = ['--multifd', '3', '--compress', 'zlib', '--auto-converge', '--keep-source']
    const { envelope, exitCode } = await migrate(source.socket, destination.socket, ...options)
    expect({ exitCode, warnings: envelope.warnings }).toEqual({ exitCode: 0, warnings: [] })
    const { ram } = await source.qmp.execute('query-migrate')
    expect(Number(ram?.['multifd-bytes'])).toBeGreaterThan(0)
    for (const [index, side] of [source, destination].entries()) {
      const { capabilities, parameters } = before[index] as Awaited<ReturnType<typeof fullState>>
      expect(await fullState(side)).toMatchObject({ capabilities, parameters })
    }
  })

  test.each([
    [['--multifd', '0'], /--multifd/],
    [['--compress', 'lzma'], /--compress=lzma/],
  ])('%j is refused', async (options, words) => {
    const { exitCode, envelope } = await migrate('/run/none', '/run/none-either', ...options)
    expect(exitCode).toBe(2)
    expect(envelope.error?.message).toMatch(words)
  })

  test('--dry-run prints what is sent, and changes nothing', async () => {
    const source = await bench.source(image)
    const destination = await bench.incoming()
    const states = async () => [await fullState(source), await fullState(destination)]
    const before = await states()
    const options = ['--bandwidth', '1000000000', '--downtime-limit', '250']
    const dry = await migrate(source.socket, destination.socket, '--dry-run', ...options)
    expect(dry.envelope).toMatchObject({ ok: true, result: { dryRun: true } })
    expect(await states()).toEqual(before)

    const real = await migrate(source.socket, destination.socket, '--verbose', ...options)
    expect(real.exitCode).toBe(0)
    const sent = real.stderr.split('\n').flatMap((line) => {
      const [, side, json] = /^(source|destination) -> (.*)$/.exec(line) ?? []
      if (json === undefined) return []
      const { execute, arguments: args } = JSON.parse(json) as { execute: string; arguments: unknown }
      return /^(x-)?query-|^qom-|^device-list|^qmp_cap/.test(execute) ? [] : [{ side, execute, arguments: args }]
    })
    const withoutFolder = (commands: unknown) => JSON.stringify(commands, null, 1).replaceAll(/vblk-\w{6}\//g, '')
    expect(withoutFolder(sent)).toBe(withoutFolder(dry.envelope.result?.commands))
    expect(sent.map(({ execute }) => execute)).toContain('migrate-set-parameters')
  })

  test('as text: facts and a table', async () => {
    const source = await bench.source(image)
    const destination = await bench.incoming()
    const dry = await vblk(['migrate', source.socket, destination.socket, '--dry-run'], { text: true })
    expect(dry.stdout).toMatch(/^destination: \{"execute":"blockdev-add",.*\n.*device_add/)
    const { stdout } = await vblk(['migrate', source.socket, destination.socket], { text: true })
    expect(stdout).toMatch(
      /^VM +running on .*\ndowntime +[\d.]+ ms \(drain [\d.]+, .*, start [\d.]+\)\nmigration +\d+ ms, [\d.]+ MiB sent\nsource +ended\n/,
    )
    expect(stdout).toMatch(/\nd1 +idle -> idle +writeback -> writeback +the VM runs without KVM\n$/)
  })
})
