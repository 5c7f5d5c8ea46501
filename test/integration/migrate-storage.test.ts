// SPDX-License-Identifier: GPL-2.0-or-later
// Disks whose contents go along: what is on both images, and what a failure leaves.

import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, link, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals'
import type { MigrationSummary } from '../../src/migration/journal/summary.ts'
import type { Recovered } from '../../src/migration/recover.ts'
import { attachDisk, Bench, type Full, fullState, hasEnded, migrate, startMigrate } from './migration.ts'
import { type Qemu, vblk } from './qemu.ts'
import { type Moment, QmpProxy } from './qmp-proxy.ts'

jest.setTimeout(120_000)

const MiB = 1 << 20
const bytes = 8 * MiB

let bench: Bench
let source: Qemu
let destination: Qemu
/** The source's image of d1, with random contents, and where d1 is to go. */
let image: string
let target: string
let before: Full
let there: Full
let count = 0
const proxies: QmpProxy[] = []

beforeAll(async () => {
  bench = await Bench.create()
})
beforeEach(async () => {
  image = join(bench.dir, `from${++count}.raw`)
  await writeFile(image, randomBytes(bytes))
  target = join(bench.dir, `to${count}.raw`)
  await writeFile(target, Buffer.alloc(bytes, 'old'))
  source = await bench.source(image)
  destination = await bench.incoming()
  before = await fullState(source)
  there = await fullState(destination)
})
afterEach(async () => {
  for (const proxy of proxies.splice(0)) await proxy.stop()
  await bench.stopAll()
  expect(await bench.leftovers()).toEqual([])
  const { envelope } = await vblk<{ migrations: MigrationSummary[] }>(['migrate', 'status'])
  expect(envelope.result?.migrations).toEqual([])
})
afterAll(() => bench?.remove())

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const copying = (...more: string[]) => ['--copy-storage', `d1=${target}`, ...more]
/** A quarter of a minute for the 8 MiB. */
const slowly = ['--bandwidth', '524288']

/** Does what a guest would, past the device. */
async function io(qemu: Qemu, id: string, command: string): Promise<void> {
  const args = { 'command-line': `qemu-io -d /machine/peripheral/${id}/virtio-backend "${command}"` }
  expect(await qemu.qmp.execute('human-monitor-command' as 'stop', args as unknown as Record<string, never>)).toBe('')
}

async function awaitJob(): Promise<void> {
  while ((await source.qmp.execute('query-jobs')).length === 0) await pause(20)
}

const isAsOnSource = async () => (await readFile(image)).equals(await readFile(target))

/** Nothing of the copy is left at a QEMU that lives. */
async function expectNoCopy(qemu: Qemu): Promise<void> {
  expect(await qemu.qmp.execute('query-jobs')).toEqual([])
  expect(await qemu.qmp.execute('query-block-exports' as 'query-jobs')).toEqual([])
  // A server that was left would refuse another.
  const addr = { type: 'unix', data: { path: join(bench.dir, 'probe.sock') } } as const
  await qemu.qmp.execute('nbd-server-start', { addr })
  await qemu.qmp.execute('nbd-server-stop')
}

/** The VM is where it was, on its image, which takes writes; the target is written no more. */
async function expectAtSource(): Promise<void> {
  expect(await fullState(source)).toEqual(before)
  await expectNoCopy(source)
  const copy = await readFile(target)
  await io(source, 'd1', 'write -P 0x77 1M 64k')
  await io(source, 'd1', 'flush')
  expect((await readFile(image)).subarray(MiB, MiB + 65536).equals(Buffer.alloc(65536, 0x77))).toBe(true)
  expect((await readFile(target)).equals(copy)).toBe(true)
}

/** The destination's QEMU is as before, and can still take the VM. */
async function expectUntouchedDestination(): Promise<void> {
  expect(await fullState(destination)).toEqual(there)
  await expectNoCopy(destination)
  expect((await migrate(source.socket, destination.socket, ...copying())).exitCode).toBe(0)
  expect(await isAsOnSource()).toBe(true)
}

describe('the storage goes along', () => {
  test('with what the guest writes meanwhile, beside a disk that both share', async () => {
    const shared = await bench.image(`shared${count}.raw`)
    await attachDisk(source, 'd2', shared, '--bus', 'rp2')
    const { outcome } = startMigrate(source.socket, destination.socket, ...copying('--bandwidth', '4194304'))
    await awaitJob()
    for (const [pattern, at] of [
      ['0x11', '0'],
      ['0x22', '4M'],
      ['0x33', '8323072'],
    ])
      await io(source, 'd1', `write -P ${pattern} ${at} 64k`)
    const { exitCode, envelope } = await outcome
    expect([exitCode, envelope.error, envelope.warnings]).toEqual([0, undefined, []])
    const [d1, d2] = envelope.result?.disks ?? []
    expect(d1?.copied).toEqual({ from: image, file: target, bytes: expect.any(Number), ms: expect.any(Number) })
    expect(d1?.copied?.bytes).toBeGreaterThanOrEqual(bytes)
    expect(d2?.id).toBe('d2')
    expect(d2).not.toHaveProperty('copied')
    expect(await hasEnded(source)).toBe(true)

    const copy = await readFile(target)
    expect(copy.equals(await readFile(image))).toBe(true)
    expect(copy.subarray(0, 65536).equals(Buffer.alloc(65536, 0x11))).toBe(true)
    expect(copy.subarray(8323072).equals(Buffer.alloc(65536, 0x33))).toBe(true)
    const list = await vblk<{ disks: unknown[] }>(['list', destination.socket])
    expect(list.envelope.result?.disks).toMatchObject([
      { id: 'd1', file: target, node: 'vblk-d1' },
      { id: 'd2', file: shared },
    ])
    await expectNoCopy(destination)

    await io(destination, 'd1', 'write -P 0x44 2M 64k')
    await io(destination, 'd1', 'flush')
    expect((await readFile(target))[2 * MiB]).toBe(0x44)
    expect(copy.equals(await readFile(image))).toBe(true)
  })

  test('of two disks at once, of a VM that stands still', async () => {
    const [from, to] = [join(bench.dir, `second${count}.raw`), await bench.image(`second-to${count}.raw`)]
    await writeFile(from, randomBytes(bytes))
    await attachDisk(source, 'd2', from, '--bus', 'rp2')
    await source.qmp.execute('stop')
    const both = copying('--copy-storage', `d2=${to}`)
    const { exitCode, envelope } = await migrate(source.socket, destination.socket, ...both, '--keep-source')
    expect([exitCode, envelope.result?.status]).toEqual([0, 'paused'])
    expect(await isAsOnSource()).toBe(true)
    expect((await readFile(to)).equals(await readFile(from))).toBe(true)
    await expectNoCopy(source)
  })

  test('to the image on which the destination has the disk', async () => {
    const args = [
      '-blockdev',
      `driver=raw,node-name=n,cache.direct=on,file.driver=file,file.filename=${target},file.cache.direct=on`,
      '-device',
      'vhost-blk-pci,id=d1,drive=n,bus=rp1',
    ]
    const ready = await bench.incoming({ args })
    const without = await migrate(source.socket, ready.socket)
    expect(without.envelope.error?.message).toMatch(/^d1 differs on the destination: file is /)
    const wrong = await migrate(source.socket, ready.socket, '--copy-storage', `d1=${image}`)
    expect(wrong.envelope.error?.message).toBe(
      `d1 can't be copied: the destination has it on ${target}, not on ${image}`,
    )
    expect((await migrate(source.socket, ready.socket, '--copy-storage', 'd1')).exitCode).toBe(0)
    expect(await isAsOnSource()).toBe(true)
    await io(ready, 'd1', 'write -P 0x55 0 64k')
    await io(ready, 'd1', 'flush')
    expect((await readFile(target))[0]).toBe(0x55)
  })

  test('and the end says what becomes of the old image', async () => {
    const argv = ['migrate', source.socket, destination.socket, ...copying()]
    const { stdout } = await vblk(argv, { text: true })
    expect(stdout).toMatch(
      new RegExp(`^d1 is on ${target} now \\(8\\.0 MiB, .* s\\); ${image} is as it was .* not deleted$`, 'm'),
    )
  })

  test('--dry-run tells the commands in order, and preflight the image', async () => {
    const dry = await migrate(source.socket, destination.socket, ...copying('--dry-run', '--bandwidth', '1000'))
    const sent = dry.envelope.result?.commands?.map(({ side, execute }) => `${side} ${execute}`) ?? []
    expect(sent.filter((each) => !each.includes('migrate-set'))).toEqual([
      ...['destination blockdev-add', 'destination device_add', 'destination nbd-server-start'],
      ...['destination block-export-add', 'source blockdev-add', 'source blockdev-mirror', 'destination stop'],
      ...['destination migrate-incoming', 'source migrate', 'source block-job-cancel', 'source job-dismiss'],
      ...['source blockdev-del', 'destination nbd-server-stop', 'destination blockdev-set-active'],
      ...['source migrate-continue', 'destination cont', 'source quit'],
    ])
    expect(dry.envelope.result?.commands?.find(({ execute }) => execute === 'blockdev-mirror')).toMatchObject({
      arguments: { sync: 'full', 'copy-mode': 'write-blocking', speed: 1000 },
    })
    const preflight = await vblk(['migrate', 'preflight', source.socket, destination.socket, ...copying()])
    expect(preflight.envelope.result).toMatchObject({ disks: [{ id: 'd1', made: true, copiedTo: target }] })
    expect(await fullState(destination)).toEqual(there)
  })
})

describe('what can not be copied is refused before anything is changed', () => {
  const refused = async (argv: string[], exitCode: number, message: RegExp | string) => {
    const outcome = await migrate(source.socket, destination.socket, ...argv)
    expect(outcome.envelope.error?.message).toMatch(message)
    expect(outcome.exitCode).toBe(exitCode)
    expect(await fullState(source)).toEqual(before)
    expect(await fullState(destination)).toEqual(there)
    return outcome.envelope.error
  }

  test('usage, unknown disks and images that are not there', async () => {
    await refused(['--copy-storage', '=x'], 2, /'=x' is not DISK or DISK=PATH$/)
    await refused(copying('--copy-storage', 'd1'), 2, /d1 is given twice$/)
    await refused(['--copy-storage', `d9=${target}`], 3, /has no virtio disk d9$/)
    await refused(['--copy-storage', 'd1'], 5, /^d1 can't be copied: the destination does not have it$/)
    const error = await refused(['--copy-storage', `d1=${target}.none`], 3, /\.none: no such file or block device$/)
    expect(error?.hint).toBe(`make it first: truncate -s ${bytes} ${target}.none`)
  })

  test('another size, the same file by another name, an image in use', async () => {
    const larger = await bench.image(`larger${count}.raw`, bytes + 512)
    await refused(['--copy-storage', `d1=${larger}`], 5, new RegExp(`larger.* has ${bytes + 512} bytes, not ${bytes}$`))
    await link(image, `${image}.same`)
    await refused(['--copy-storage', `d1=${image}.same`], 5, /\.same is the image that it is on$/)
    const other = await bench.source(target)
    await refused(copying(), 5, new RegExp(`^d1 can't be copied: ${target} is in use: a QEMU has locked it$`))
    await other.stop()
  })

  test('a read-only disk', async () => {
    await attachDisk(source, 'd2', await bench.image(`ro${count}.raw`), '--bus', 'rp2', '--read-only')
    before = await fullState(source)
    const onto = ['--copy-storage', `d2=${target}`]
    await refused(onto, 5, /^d2 can't be copied: it is read-only, and so is its counterpart$/)
  })

  test('two disks to one image', async () => {
    await attachDisk(source, 'd2', await bench.image(`second${count}.raw`), '--bus', 'rp2')
    before = await fullState(source)
    const wanted = new RegExp(`^d2 can't be copied: ${target} is the image for d1 already$`)
    await refused(copying('--copy-storage', `d2=${target}`), 5, wanted)
  })

  test("an NBD server that is somebody else's stays", async () => {
    const addr = { type: 'unix', data: { path: join(bench.dir, `theirs${count}.sock`) } } as const
    await destination.qmp.execute('nbd-server-start', { addr })
    const outcome = await migrate(source.socket, destination.socket, ...copying())
    expect(outcome.envelope.error?.message).toMatch(/nbd-server-start: NBD server already running/)
    expect(outcome.exitCode).toBe(5)
    expect(await fullState(destination)).toEqual(there)
    await expect(destination.qmp.execute('nbd-server-start', { addr })).rejects.toThrow(/already running/)
  })
})

describe('a failure', () => {
  test("the image's file system is full", async () => {
    const small = join(bench.dir, `small${count}`)
    await mkdir(small)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4M,mode=755', 'small', small])
    try {
      const [from, to] = [await bench.image(`cached${count}.raw`), await bench.image(join(`small${count}`, 'to.raw'))]
      await writeFile(from, randomBytes(bytes))
      const home = await bench.source(from, ['--cache', 'writeback'])
      before = await fullState(home)
      const next = await bench.incoming()
      there = await fullState(next)
      const outcome = await migrate(home.socket, next.socket, '--copy-storage', `d1=${to}`)
      expect(outcome.envelope.error?.message).toBe(`d1: copying it to ${to} failed: No space left on device`)
      expect(outcome.exitCode).toBe(7)
      expect(await fullState(home)).toEqual(before)
      expect(await fullState(next)).toEqual(there)
      await expectNoCopy(home)
      await expectNoCopy(next)
      await bench.stopAll()
    } finally {
      execFileSync('umount', ['-l', small])
    }
  })

  test('another ends the job, while memory is copied', async () => {
    const at = async (command: string, moment: Moment) => {
      if (command !== 'migrate' || moment !== 'before') return
      await source.qmp.execute('block-job-cancel', { device: 'vblk-copy-0', force: true })
    }
    const outcome = await migrate(await through(source, at), destination.socket, ...copying())
    expect(outcome.envelope.error?.message).toMatch(
      /^d1: copying it to .* failed: .*; rolled back: the VM runs on the source$/,
    )
    expect(outcome.exitCode).toBe(7)
    expect(await hasEnded(destination)).toBe(true)
    await expectAtSource()
  })

  test('the destination dies while its image is written', async () => {
    const { outcome } = startMigrate(source.socket, destination.socket, ...copying(...slowly))
    await awaitJob()
    destination.process.kill('SIGKILL')
    expect((await outcome).exitCode).toBe(7)
    await expectAtSource()
  })

  test('the time is over', async () => {
    const outcome = await migrate(source.socket, destination.socket, ...copying(...slowly, '--timeout', '3'))
    expect(outcome.envelope.error?.message).toMatch(/did not come to its end within 3 s/)
    expect(outcome.exitCode).toBe(7)
    await expectAtSource()
    await expectUntouchedDestination()
  })
})

async function through(qemu: Qemu, at: (command: string, moment: Moment) => Promise<void>): Promise<string> {
  const path = `${qemu.socket}.proxy`
  proxies.push(await QmpProxy.start(path, qemu.socket, at))
  return path
}

/** Signals vblk at a moment, before it hears more; what QEMU was sent still happens. */
async function strike(
  signal: 'SIGINT' | 'SIGKILL',
  side: 'source' | 'destination',
  wanted: string,
  when: Moment,
): Promise<number | null> {
  let kill: () => void = () => {}
  const at = async (command: string, moment: Moment) => {
    if (command !== wanted || moment !== when) return
    kill()
    await pause(300)
  }
  const from = side === 'source' ? await through(source, at) : source.socket
  const to = side === 'destination' ? await through(destination, at) : destination.socket
  const running = startMigrate(from, to, ...copying())
  let struck = false
  kill = () => {
    if (!struck) running.process.kill(signal)
    struck = true
  }
  const outcome = await running.outcome.catch(() => undefined)
  expect(struck).toBe(true)
  return outcome?.exitCode ?? null
}

const beforeTheStream = [
  ['destination', 'nbd-server-start'],
  ['destination', 'block-export-add'],
  ['source', 'blockdev-add'],
  ['source', 'blockdev-mirror'],
] as const
const whileItStandsStill = [
  ['source', 'block-job-cancel'],
  ['source', 'job-dismiss'],
  ['source', 'blockdev-del'],
  ['destination', 'nbd-server-stop'],
  ['destination', 'blockdev-set-active'],
] as const
const bothMoments = <T extends readonly (readonly [string, string])[]>(commands: T) =>
  commands.flatMap(([side, command]) =>
    (['before', 'after'] as const).map((moment) => ({ moment, command, side: side as T[number][0] })),
  ) as { moment: Moment; command: string; side: 'source' | 'destination' }[]

describe('vblk is interrupted', () => {
  test.each(bothMoments(beforeTheStream))('$moment $command', async ({ moment, command, side }) => {
    expect(await strike('SIGINT', side, command, moment)).toBe(130)
    await expectAtSource()
    await expectUntouchedDestination()
  })

  test.each(bothMoments(whileItStandsStill))('$moment $command', async ({ moment, command, side }) => {
    expect(await strike('SIGINT', side, command, moment)).toBe(130)
    expect(await hasEnded(destination)).toBe(true)
    await expectAtSource()
  })

  test('by migrate abort while the storage is copied', async () => {
    const { outcome } = startMigrate(source.socket, destination.socket, ...copying(...slowly))
    await awaitJob()
    expect((await vblk(['migrate', 'abort'])).exitCode).toBe(0)
    expect((await outcome).exitCode).toBe(130)
    await expectAtSource()
    await expectUntouchedDestination()
  })
})

describe('vblk is killed, and recover', () => {
  const recover = async () => {
    const { exitCode, envelope } = await vblk<Recovered>(['migrate', 'recover'])
    expect([exitCode, envelope.error]).toEqual([0, undefined])
    expect(envelope.result).toMatchObject({ owner: 'source', vm: 'running' })
  }

  test.each(bothMoments(beforeTheStream))('$moment $command', async ({ moment, command, side }) => {
    await strike('SIGKILL', side, command, moment)
    await recover()
    await expectAtSource()
    await expectUntouchedDestination()
  })

  test.each(bothMoments(whileItStandsStill))('$moment $command', async ({ moment, command, side }) => {
    await strike('SIGKILL', side, command, moment)
    await recover()
    expect(await hasEnded(destination)).toBe(true)
    await expectAtSource()
  })

  test('and the destination with it', async () => {
    const running = startMigrate(source.socket, destination.socket, ...copying(...slowly))
    await awaitJob()
    running.process.kill('SIGKILL')
    destination.process.kill('SIGKILL')
    await running.outcome.catch(() => {})
    await hasEnded(destination)
    await recover()
    await expectAtSource()
  })
})

test('images that only vblk may open', async () => {
  const unprivileged = ['-run-with', 'user=nobody', '-sandbox', 'on,obsolete=deny,spawn=deny,resourcecontrol=deny']
  const secret = await bench.image(`secret${count}.raw`)
  await writeFile(secret, randomBytes(bytes))
  for (const file of [secret, target]) await chmod(file, 0o600)
  const from = await bench.source(secret, ['--pass-fd'], unprivileged)
  const to = await bench.incoming({ args: unprivileged })
  const { exitCode, envelope } = await migrate(from.socket, to.socket, ...copying())
  expect([exitCode, envelope.error, envelope.warnings]).toEqual([0, undefined, []])
  expect((await readFile(secret)).equals(await readFile(target))).toBe(true)
})
