// SPDX-License-Identifier: GPL-2.0-or-later
// QEMU is upgraded under a running VM: the same root, with another program in the place of the first, and the device for it
// built elsewhere.

import { chmod, cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import { readBuildId } from '../../src/host/elf.ts'
import { builtObject, inRoot } from '../device/root-qemu.ts'
import { cache, root } from '../lab/setup/paths.ts'
import { vblkInRoot } from './in-root.ts'
import { Bench, hasEnded, migrate } from './migration.ts'
import type { Qemu } from './qemu.ts'

jest.setTimeout(180_000)

const program = '/usr/bin/qemu-system-x86_64'
let bench: Bench
let old: Qemu
let overlay: string
const buildIds = { old: '', new: '' }

beforeAll(async () => {
  bench = await Bench.create()
  old = await bench.source(await bench.image('disk.raw'), ['--serial', 'KEPT'])
  overlay = join(bench.dir, 'overlay')
  buildIds.old = await readBuildId(join(root, program))
  buildIds.new = await upgrade()
  process.env.VBLK_OVERLAY = overlay
})
afterAll(async () => {
  delete process.env.VBLK_OVERLAY
  await bench?.remove()
})

/** Lays a QEMU with a build id of its own over the root's. */
async function upgrade(): Promise<string> {
  const bytes = await readFile(join(root, program))
  const id = Buffer.from(buildIds.old, 'hex')
  const at = bytes.indexOf(id)
  expect(at).toBeGreaterThan(0)
  bytes.writeUInt8(bytes.readUInt8(at) ^ 0xff, at)
  const file = join(overlay, program)
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, bytes)
  await chmod(file, 0o755)
  return await readBuildId(file)
}

test('the device of the old QEMU is not taken for the new one, and the command that builds another is named', async () => {
  expect(buildIds.new).not.toBe(buildIds.old)
  expect(await vblkInRoot(['device', 'args'])).toEqual({
    exitCode: 4,
    stdout: '',
    stderr:
      `Error: there is no vhost-blk device for ${program} (build id ${buildIds.new})\n` +
      `Hint: build it: vblk device build ${program}\n`,
  })
  const basic = ['-M', 'none', '-display', 'none', '-plugin', `file=${await builtObject()}`]
  const started = await inRoot([program, ...basic])
  expect(started.exitCode).not.toBe(0)
  expect(started.stderr).toContain(buildIds.old)
})

test('a device that was built elsewhere and shipped makes the new QEMU start, and the VM moves there', async () => {
  const elsewhere = join(bench.dir, 'elsewhere')
  await mkdir(`${elsewhere}.headers`)
  // Both are made from one source, whose headers are here.
  await symlink(join(cache, 'native.headers', buildIds.old), join(`${elsewhere}.headers`, buildIds.new))
  expect(await vblkInRoot(['device', 'build', '--quiet', '--out', elsewhere])).toMatchObject({ exitCode: 0 })
  const shipped = join('/usr/lib/vblk/device', buildIds.new)
  await cp(join(elsewhere, buildIds.new), join(overlay, shipped), { recursive: true })

  const { exitCode, stdout } = await vblkInRoot(['device', 'args'])
  expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: `-plugin file=${shipped}/vhost-blk.so\n` })
  const started = await bench.incoming({ plugin: false, args: stdout.trim().split(' ') })
  const before = await old.state()
  const { envelope } = await migrate(old.socket, started.socket)
  expect(envelope).toMatchObject({ ok: true, result: { status: 'running', source: 'quit', disks: [{ id: 'd1' }] } })
  expect(await hasEnded(old)).toBe(true)
  expect(await started.state()).toEqual(before)
})
