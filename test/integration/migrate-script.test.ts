// SPDX-License-Identifier: GPL-2.0-or-later
// The migration's runbooks and the example for wrapper scripts, run as they stand there, on real QEMUs.

import { randomBytes } from 'node:crypto'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, jest, test } from '@jest/globals'
import { execa } from 'execa'
import { top } from '../lab/setup/paths.ts'
import { Bench, fullState, hasEnded, startMigrate } from './migration.ts'
import { program } from './program.ts'
import { runbookScript } from './runbook.ts'

jest.setTimeout(120_000)

let bench: Bench
let count = 0

beforeAll(async () => {
  bench = await Bench.create()
  await writeFile(join(bench.dir, 'vblk'), `#!/bin/sh\nexec ${process.execPath} ${program} "$@"\n`, { mode: 0o755 })
})
afterEach(() => bench.stopAll())
afterAll(() => bench?.remove())

const run = (command: string, ...args: string[]) =>
  execa(command, args, { env: { PATH: `${bench.dir}:${process.env.PATH}` }, reject: false })

async function pair() {
  const source = await bench.source(await bench.image(`disk${++count}.raw`))
  return { source, destination: await bench.incoming() }
}

/** A program of the user's, which tells that it was there. */
async function hook(name: string, exitCode: number): Promise<string> {
  const path = join(bench.dir, name)
  await writeFile(path, `#!/bin/sh\necho "${name} $1 $2" >>"${path}.log"\nexit ${exitCode}\n`, { mode: 0o755 })
  return path
}

test('move a VM', async () => {
  const { source, destination } = await pair()
  const script = runbookScript('move-a-vm', { VM: source.socket, DESTINATION: destination.socket })
  const { stdout, stderr, exitCode } = await run('sh', '-c', script)
  expect({ stderr, exitCode }).toMatchObject({ exitCode: 0 })
  expect(stdout).toMatch(/^VM +running on /m)
  expect(stdout).toMatch(/ done +running +destination: /)
  expect(await hasEnded(source)).toBe(true)
  expect((await fullState(destination)).status).toBe('running')
})

test('move a VM with its local disk', async () => {
  const { source, destination } = await pair()
  const values = { IMAGE: join(bench.dir, `disk${count}.raw`), NEW: join(bench.dir, `new${count}.raw`) }
  await writeFile(values.IMAGE, randomBytes(8 << 20))
  const contents = await readFile(values.IMAGE)
  const vms = { VM: source.socket, DESTINATION: destination.socket, DISK: 'd1' }
  const { stdout, stderr, exitCode } = await run('sh', '-c', runbookScript('move-a-local-disk', { ...vms, ...values }))
  expect({ stderr, exitCode }).toMatchObject({ exitCode: 0 })
  expect(stdout).toMatch(/^DISK +DATAPATH +ON THE DESTINATION +COPIED TO$/m)
  expect(stdout).toContain(`d1 is on ${values.NEW} now`)
  expect(contents.equals(await readFile(values.NEW))).toBe(true)
  await expect(stat(values.IMAGE)).rejects.toThrow('ENOENT')
  expect(await hasEnded(source)).toBe(true)
  expect((await fullState(destination)).status).toBe('running')
})

test('after a migration that was left', async () => {
  const { source, destination } = await pair()
  const before = await fullState(source)
  const running = startMigrate(source.socket, destination.socket, '--bandwidth', '1000')
  while ((await source.qmp.execute('query-migrate')).status !== 'active')
    await new Promise((resolve) => setTimeout(resolve, 50))
  running.process.kill('SIGKILL')
  await running.outcome.catch(() => {})
  const { stdout, stderr, exitCode } = await run('sh', '-c', runbookScript('left-migration', {}))
  expect({ stderr, exitCode }).toMatchObject({ exitCode: 0 })
  expect(stdout).toMatch(/ left +copy +source: /)
  expect(stdout).toMatch(/^rolled back to the source; the VM: running; its disks belong to the source, /m)
  expect(stdout).toMatch(/^no migration is open$/m)
  expect(await fullState(source)).toEqual(before)
})

test('the example moves a VM, with the steps around it', async () => {
  const { source, destination } = await pair()
  const [before, after] = [await hook('before', 0), await hook('after', 1)]
  const example = join(top, 'examples/migrate-vm')
  const { stdout, stderr, exitCode } = await run(example, source.socket, destination.socket, before, after)
  expect({ stderr, exitCode }).toMatchObject({ exitCode: 0 })
  expect(stdout).toMatch(/^[0-9a-f-]{36}$/)
  expect(stderr).toContain(`migrate-vm: ${after} failed with exit code 1\n`)
  const { stdout: log } = await run('cat', `${before}.log`, `${after}.log`)
  expect(log).toBe(`before ${source.socket} ${destination.socket}\nafter ${source.socket} ${destination.socket}`)
  expect(await hasEnded(source)).toBe(true)
  expect((await fullState(destination)).status).toBe('running')
})

test('the example leaves all as it was when its first step says no', async () => {
  const { source, destination } = await pair()
  const [here, there] = [await fullState(source), await fullState(destination)]
  const example = join(top, 'examples/migrate-vm')
  const { exitCode } = await run(example, source.socket, destination.socket, await hook('no', 1))
  expect(exitCode).toBe(7)
  expect([await fullState(source), await fullState(destination)]).toEqual([here, there])
})
