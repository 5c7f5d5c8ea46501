// SPDX-License-Identifier: GPL-2.0-or-later
// What two hosts say of each other, and what comes of it if the other one lies.

import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { findMount, identifyDisk } from '../../../src/migration/hosts/disk-identity.ts'
import { OtherHost, sshAddress } from '../../../src/migration/hosts/other-host.ts'
import { type DiskIdentity, protocolVersion } from '../../../src/migration/hosts/protocol.ts'
import { differenceOf, unequalBlocks } from '../../../src/migration/hosts/same-disks.ts'
import { decidedOf, newerOf } from '../../../src/migration/hosts/with-hosts.ts'
import type { MigrationRecord, Phase } from '../../../src/migration/journal/record.ts'

let dir: string
const path = process.env.PATH ?? ''

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'vblk-hosts-'))
  process.env.PATH = `${dir}:${path}`
})

afterAll(async () => {
  process.env.PATH = path
  await rm(dir, { recursive: true })
})

const machine = 'f'.repeat(32)
const greeting = `{"vblk-host-agent":${protocolVersion},"machine":"${machine}","name":"two"}`

/** Opens a host whose ssh is this shell script; it finds its arguments in the file `arguments`. */
async function open(script: string, name = 'ssh://root@two:2222/run/b.qmp'): Promise<OtherHost> {
  const file = join(dir, 'ssh')
  await writeFile(file, `#!/bin/sh\nprintf '%s\\n' "$@" >${dir}/arguments\n${script}\n`)
  await chmod(file, 0o755)
  const address = sshAddress(name)
  if (address === undefined) throw new Error(`no address: ${name}`)
  return await OtherHost.open(address)
}

test('ssh gets the host where no option can be, and a command without anything of ours', async () => {
  const host = await open(`echo 'Welcome to two!'; echo '${greeting}'; cat >/dev/null`)
  expect(host).toMatchObject({ machine, name: 'two' })
  await host.close()
  const given = (await readFile(join(dir, 'arguments'), 'utf8')).trim().split('\n')
  expect(given.slice(-5)).toEqual(['-p', '2222', '--', 'root@two', 'vblk host-agent'])
  expect(() => sshAddress('ssh://-oProxyCommand=x/run/b.qmp')).toThrow('is no address like')
})

test.each([
  ['another version', `echo '${greeting.replace(`:${protocolVersion}`, ':1')}'; cat >/dev/null`, 4, /speaks version 1/],
  ['no such name', `echo '${greeting.replace('two', '$(reboot)')}'; cat >/dev/null`, 7, /can't be understood/],
  ['no vblk', 'echo "sh: vblk: not found" >&2; exit 127', 4, /has no vblk: sh: vblk: not found/],
  ['no way there', 'echo "Permission denied (publickey)." >&2; exit 255', 3, /failed: Permission denied/],
])('a host with %s is refused', async (_what, script, exitCode, message) => {
  await expect(open(script)).rejects.toMatchObject({ exitCode, message: expect.stringMatching(message) })
})

test.each([
  ['nonsense', 'echo nonsense'],
  ['an answer of another shape', `echo '{"id":1,"answer":"yes"}'`],
  ['its end', 'exit 0'],
])('an answer that is %s is no answer', async (_what, script) => {
  const host = await open(`echo '${greeting}'; read -r line; ${script}; cat >/dev/null`)
  const asked = host.ask('ended', { process: { pid: 1, startedAt: '1', boot: 'b' } })
  await expect(asked).rejects.toMatchObject({ code: 'HOST_LOST' })
  await host.close()
  await expect(host.ask('ping', {})).rejects.toMatchObject({ code: 'HOST_LOST' })
})

test("a refusal comes with the other host's words and a known exit code", async () => {
  const error = (exitCode: number) =>
    `{"id":1,"error":{"code":"VM_LOCKED","exitCode":${exitCode},"message":"m","hint":null}}`
  for (const [told, exitCode] of [
    [9, 9],
    [0, 4],
    [77, 4],
  ] as const) {
    const host = await open(`echo '${greeting}'; read -r line; echo '${error(told)}'; cat >/dev/null`)
    await expect(host.ask('look', { path: '/run/b.qmp' })).rejects.toMatchObject({
      exitCode,
      message: 'on root@two: m',
    })
    await host.close()
  }
})

const disk: DiskIdentity = {
  kind: 'block',
  sizeBytes: 1 << 20,
  sectorBytes: 512,
  readOnly: false,
  id: 'uuid.1',
  content: ['a', 'b', 'c'],
}

test('two disks are the same if nothing differs but what the guest may be writing', () => {
  expect(differenceOf(disk, disk)).toBeUndefined()
  expect(differenceOf(disk, { ...disk, id: 'uuid.2' })).toBe('identity is uuid.2, not uuid.1')
  expect(differenceOf(disk, { ...disk, sizeBytes: 512 })).toBe('size is 512, not 1048576')
  expect(differenceOf(disk, { ...disk, sectorBytes: 4096 })).toBe('sector size is 4096, not 512')
  expect(differenceOf(disk, { ...disk, readOnly: true })).toBe('read-only is true, not false')
  expect(differenceOf(disk, { ...disk, content: ['a'] })).toBe('it can be read to another length')
  expect(unequalBlocks(disk, { ...disk, content: ['a', 'x', 'c'] })).toEqual([1])
})

test('what one host alone can see has no identity, nor has what is not there', async () => {
  const file = join(dir, 'image')
  await writeFile(file, Buffer.alloc(1 << 16))
  expect(await identifyDisk(file)).toEqual({ fault: expect.stringMatching(/^it is on \w+, which no two hosts share$/) })
  expect(await identifyDisk(join(dir, 'none'))).toEqual({ fault: 'there is no such file' })
  expect(await identifyDisk('/dev/null')).toEqual({ fault: 'it is neither a regular file nor a block device' })
})

test('a file system is found by its device number', () => {
  const mountinfo = [
    '22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw',
    '40 22 0:45 / /srv rw,relatime shared:9 - nfs4 store:/vms rw,vers=4.2',
  ].join('\n')
  expect(findMount(mountinfo, 45)).toEqual({ type: 'nfs4', source: 'store:/vms' })
  expect(findMount(mountinfo, (254 << 8) | 0)).toEqual({ type: 'ext4', source: '/dev/vda' })
  expect(findMount(mountinfo, 46)).toBeUndefined()
})

const at = (second: number) => `2026-01-01T00:00:0${second}.000Z`
const record = (...phases: Phase[]) =>
  ({ id: 'x', entered: phases.map((phase, index) => ({ phase, at: at(index) })) }) as MigrationRecord

test('the newer of two records is the one that has grown from the other, or none', () => {
  const [older, newer] = [record('prepare', 'copy'), record('prepare', 'copy', 'rollback', 'rolled-back')]
  expect(newerOf(older, newer)).toBe(newer)
  expect(newerOf(newer, older)).toBe(newer)
  expect(newerOf(older, record('prepare', 'copy'))).toBe(older)
  expect(newerOf(newer, record('prepare', 'copy', 'switchover'))).toBeUndefined()
  expect(newerOf(older, { ...newer, id: 'y' })).toBeUndefined()
  const other = {
    ...older,
    entered: [
      { phase: 'prepare' as const, at: at(0) },
      { phase: 'copy' as const, at: at(5) },
    ],
  }
  expect(newerOf(newer, other)).toBeUndefined()
})

test('what was decided while the other host was vouched to be gone holds against what that one heard last', () => {
  const heard = record('prepare', 'copy', 'commit')
  const decided = { ...record('prepare', 'copy', 'rollback', 'rolled-back'), decidedWithout: 'destination' as const }
  expect(decidedOf(heard, decided)).toBe(decided)
  expect(decidedOf(decided, heard)).toBe(decided)
  expect(decidedOf({ ...decided, id: 'y' }, heard)).toBeUndefined()
  expect(decidedOf(heard, heard)).toBeUndefined()
  expect(decidedOf(decided, { ...heard, decidedWithout: 'source' })).toBeUndefined()
})
