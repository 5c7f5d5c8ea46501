// SPDX-License-Identifier: GPL-2.0-or-later
// The runbooks' commands, typed as they stand there, on a real QEMU. Those on the module are run in the lab (test/cli).

import { execFileSync } from 'node:child_process'
import { stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import { program } from './program.ts'
import { makeFolder, makeImage, Qemu, removeFolder, vblk } from './qemu.ts'
import { runbookScript } from './runbook.ts'

jest.setTimeout(120_000)

let dir: string
let qemu: Qemu

beforeAll(async () => {
  dir = await makeFolder()
  qemu = await Qemu.start(dir, 'vm', { hotplug: 'native' })
  await writeFile(join(dir, 'vblk'), `#!/bin/sh\nexec ${process.execPath} ${program} "$@"\n`, { mode: 0o755 })
})
afterAll(async () => {
  await qemu?.stop()
  await removeFolder(dir)
})

/** Types a runbook's commands; returns what they print. It throws with all of that if one fails. */
function follow(name: string, values: Record<string, string>): string {
  const env = { ...process.env, PATH: `${dir}:${process.env.PATH}`, VBLK_CONFIG_DIR: join(dir, 'config') }
  return execFileSync('sh', ['-c', runbookScript(name, values)], { cwd: dir, env, encoding: 'utf8', stdio: 'pipe' })
}

test('add a disk', async () => {
  const before = await qemu.state()
  const said = follow('add-a-disk', { VM: qemu.socket, DISK: join(dir, 'data.raw') })
  expect(said).toMatch(/^\{"execute":"device_add".*"serial":"DATA-1"/m)
  expect(said).toMatch(/^data is attached; datapath: /m)
  expect(said).toMatch(/^serial +DATA-1$/m)
  expect(await qemu.state()).toEqual(before)
})

test('grow a disk', async () => {
  const disk = await makeImage(join(dir, 'grow.raw'))
  await vblk(['attach', qemu.socket, disk, '--id', 'data', '--datapath', 'auto'])
  const said = follow('grow-a-disk', { VM: qemu.socket, DISK: disk })
  expect((await stat(disk)).size).toBe((8 << 20) + 2 ** 30)
  expect(said).toMatch(/^data +1\.0 GiB /m)
  await vblk(['detach', qemu.socket, 'data'])
})
