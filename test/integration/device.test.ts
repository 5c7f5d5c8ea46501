// SPDX-License-Identifier: GPL-2.0-or-later
// The device commands, on the lab's QEMU and on programs that are none.
import { execFileSync } from 'node:child_process'
import { constants, fstatSync, readFileSync } from 'node:fs'
import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals'
import { readBuildId } from '../../src/host/elf.ts'
import { closeFd, openFd, tryLock } from '../../src/host/fd.ts'
import { builtObject, inRoot } from '../device/root-qemu.ts'
import { root } from '../lab/setup/paths.ts'
import { startVblkInRoot, vblkInRoot } from './in-root.ts'
import { makeFolder, removeFolder, vblk } from './qemu.ts'

jest.setTimeout(120_000)

const qemu = join(root, 'usr/bin/qemu-system-x86_64')
let dir: string
let buildId: string

beforeAll(async () => {
  dir = await makeFolder()
  buildId = await readBuildId(qemu)
})
afterAll(() => removeFolder(dir))

describe('device args', () => {
  test('are what QEMU takes: it knows the device then', async () => {
    const { exitCode, stdout, stderr } = await vblkInRoot(['device', 'args'])
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' })
    expect(stdout).toBe(`-plugin file=${await builtObject()}\n`)
    const basic = ['-M', 'q35', '-accel', 'tcg', '-nodefaults', '-display', 'none', '-S', '-qmp', 'stdio']
    const list = { execute: 'qom-list-types', arguments: { implements: 'vhost-blk-pci' } }
    const commands = [{ execute: 'qmp_capabilities' }, list, { execute: 'quit' }].map((line) => JSON.stringify(line))
    const started = await inRoot(['qemu-system-x86_64', ...basic, ...stdout.trim().split(' ')], commands.join('\n'))
    expect(started.stdout).toContain('"name": "vhost-blk-pci"')
  })

  test('as JSON, one by one', async () => {
    const { exitCode, envelope } = await vblk(['device', 'args', qemu])
    const object = await builtObject()
    expect(exitCode).toBe(0)
    expect(envelope).toEqual({
      ok: true,
      result: { qemu, buildId, object, args: ['-plugin', `file=${object}`] },
      warnings: [],
    })
  })

  test('the object of $VBLK_DEVICE_DIR comes first, and a comma in its path reaches QEMU', async () => {
    const folder = join(dir, 'with,comma')
    await mkdir(join(folder, buildId), { recursive: true })
    await writeFile(join(folder, buildId, 'vhost-blk.so'), '')
    const { stdout } = await vblkInRoot(['device', 'args'], { VBLK_DEVICE_DIR: folder })
    expect(stdout).toBe(`-plugin file=${dir}/with,,comma/${buildId}/vhost-blk.so\n`)
  })

  test('as XML for libvirt, whatever the path', async () => {
    const folder = join(dir, "a&<'x'>")
    await mkdir(join(folder, buildId), { recursive: true })
    await writeFile(join(folder, buildId, 'vhost-blk.so'), '')
    process.env.VBLK_DEVICE_DIR = folder
    const { stdout } = await vblk(['device', 'args', qemu, '--libvirt-xml'], { text: true })
    delete process.env.VBLK_DEVICE_DIR
    const read =
      'import sys, xml.etree.ElementTree as t; print(__import__("json").dumps([a.get("value") for a in t.parse(sys.stdin).getroot()]))'
    const values = execFileSync('python3', ['-c', read], { input: stdout, encoding: 'utf8' })
    expect(JSON.parse(values)).toEqual(['-plugin', `file=${folder}/${buildId}/vhost-blk.so`])
  })

  test('without a device --fallback prints nothing and warns', async () => {
    expect(await vblk(['device', 'args', '/bin/ls', '--fallback'])).toMatchObject({
      exitCode: 0,
      envelope: { result: { object: null, args: [] }, warnings: [expect.stringContaining('will start without it')] },
    })
  })

  test('a program without a device: the build command is named', async () => {
    const id = await readBuildId('/bin/ls')
    const { exitCode, stdout, stderr } = await vblk(['device', 'args', '/bin/ls'], { text: true })
    expect({ exitCode, stdout, stderr }).toEqual({
      exitCode: 4,
      stdout: '',
      stderr:
        `Error: there is no vhost-blk device for /usr/bin/ls (build id ${id})\n` +
        'Hint: build it: vblk device build /usr/bin/ls\n',
    })
  })
})

describe.each(['args', 'status', 'build'])('device %s of what is no program', (command) => {
  test('nothing there', async () => {
    const { exitCode, stderr } = await vblk(['device', command, join(dir, 'absent')], { text: true })
    expect([exitCode, stderr]).toEqual([
      3,
      `Error: ${join(dir, 'absent')}: no such file\nHint: give the path of a QEMU program, or nothing for the one in PATH\n`,
    ])
  })

  test('a folder', async () => {
    const { exitCode, stderr } = await vblk(['device', command, dir], { text: true })
    expect([exitCode, stderr]).toEqual([
      3,
      `Error: ${dir}: not a file\nHint: give the path of a QEMU program, or nothing for the one in PATH\n`,
    ])
  })

  test('a script that starts QEMU', async () => {
    const script = join(dir, 'kvm\n')
    await writeFile(script, '#!/bin/sh\nexec qemu-system-x86_64 "$@"\n')
    await chmod(script, 0o755)
    const { exitCode, stderr } = await vblk(['device', command, script], { text: true })
    expect([exitCode, stderr]).toEqual([
      4,
      `Error: cannot tell which QEMU this is: ${dir}/kvm\\n is no 64-bit ELF file\n` +
        'Hint: name the QEMU program itself, not a script that starts it\n',
    ])
  })
})

test('no QEMU in PATH', async () => {
  const { exitCode, stderr } = await vblkInRoot(['device', 'args', 'qemu-system-nothing'])
  expect([exitCode, stderr]).toEqual([
    3,
    'Error: qemu-system-nothing: no such file\nHint: give the path of a QEMU program, or nothing for the one in PATH\n',
  ])
})

describe('device status', () => {
  test('names version, build id and object', async () => {
    const { exitCode, stdout } = await vblkInRoot(['device', 'status', '--json'])
    expect(exitCode).toBe(0)
    expect(JSON.parse(stdout)).toEqual({
      ok: true,
      result: {
        qemu: '/usr/bin/qemu-system-x86_64',
        version: '10.0.13',
        buildId,
        object: await builtObject(),
        searched: expect.arrayContaining(['/usr/lib/vblk/device']),
      },
      warnings: [],
    })
  })

  test('a program that is no QEMU has a build id and no version', async () => {
    const { exitCode, stdout, stderr } = await vblk(['device', 'status', '/bin/ls'], { text: true })
    expect(exitCode).toBe(0)
    expect(stderr).toMatch(/^Warning: \/usr\/bin\/ls --version does not tell a version: [^\n]+\n$/)
    expect(stdout).toBe(
      `qemu      /usr/bin/ls\nversion   unknown\nbuild id  ${await readBuildId('/bin/ls')}\n` +
        'device    none; build it: vblk device build /usr/bin/ls\n',
    )
  })
})

describe('device build', () => {
  test('an object that is up to date is left as it is', async () => {
    const { exitCode, stdout } = await vblkInRoot(['device', 'build', '--json'])
    expect(exitCode).toBe(0)
    expect(JSON.parse(stdout).result).toEqual({
      qemu: '/usr/bin/qemu-system-x86_64',
      buildId,
      object: await builtObject(),
    })
  })

  test('a failure shows what the build said', async () => {
    const { exitCode, stderr } = await vblkInRoot(['device', 'build', '--quiet', '--out', join(dir, 'out')], {
      VBLK_QEMU_SRC: join(dir, 'no-source'),
    })
    expect(exitCode).toBe(4)
    expect(stderr).toMatch(
      /^( {2}\| [^\n]*\n)+Error: the device for \/usr\/bin\/qemu-system-x86_64 was not built: [^\n]+\n$/,
    )
    expect(await readdir(join(dir, 'out')).catch(() => [])).toEqual([])
  })

  test('an interruption ends the build and all that it started', async () => {
    // The build waits for this lock in flock(1), a process of its own that only a signal to all of them ends.
    const out = join(dir, 'held')
    await mkdir(`${out}.headers`)
    const lock = openFd(`${out}.headers/lock`, constants.O_RDWR | constants.O_CREAT)
    expect(tryLock(lock, 'exclusive')).toBe(true)
    const { child, finished } = startVblkInRoot(['device', 'build', '--json', '--out', out])
    await until(() => waiters(lock).length > 0)
    child.kill('SIGINT')
    const { exitCode, stdout } = await finished
    expect(exitCode).toBe(130)
    expect(JSON.parse(stdout)).toMatchObject({ ok: false, error: { code: 'INTERRUPTED', exitCode: 130 } })
    await until(() => waiters(lock).length === 0)
    closeFd(lock)
  })
})

/** The processes that wait for a lock on the open file: proc_locks(5) marks them with an arrow. */
function waiters(fd: number): string[] {
  const { ino } = fstatSync(fd)
  const lines = readFileSync('/proc/locks', 'utf8').split('\n')
  return lines.filter((line) => line.includes('->') && line.includes(`:${ino} `))
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('it did not become so within 20 s')
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
