// SPDX-License-Identifier: GPL-2.0-or-later
// A VM is brought to what a file says, on a QEMU that removes devices by itself.

import { execFileSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import type { ApplyResult } from '../../src/disk/apply.ts'
import type { DiskInfo } from '../../src/disk/info.ts'
import { makeFolder, makeImage, Qemu, removeFolder, vblk } from './qemu.ts'

jest.setTimeout(90_000)

let dir: string
let qemu: Qemu

beforeAll(async () => {
  dir = await makeFolder()
  for (const name of ['a.raw', 'b.raw', 'c d.raw']) await makeImage(join(dir, name))
  const foreign = await makeImage(join(dir, 'foreign.raw'))
  qemu = await Qemu.start(dir, 'vm', {
    hotplug: 'native',
    ports: 3,
    args: [
      '-S',
      ...['-blockdev', `raw,node-name=n0,file.driver=file,file.filename=${foreign}`],
      ...['-device', 'virtio-blk-pci,drive=n0,id=foreign'],
    ],
  })
})

afterAll(async () => {
  await qemu?.stop()
  await removeFolder(dir)
})

let number = 0
async function file(text: string): Promise<string> {
  const path = join(dir, `state-${number++}.yaml`)
  await writeFile(path, text)
  return path
}

const two = () => `vm: ${qemu.socket}
disks:
  - {id: a, file: a.raw, datapath: userspace, serial: "1"}
  - id: b            # YAML's comments
    file: ${dir}/b.raw
    datapath: userspace
    queues: 2
`
const apply = (path: string, ...flags: string[]) => vblk<ApplyResult>(['apply', path, ...flags])
const actions = (result: ApplyResult | undefined) => result?.steps.map(({ id, action }) => `${action} ${id}`)
const ids = async () =>
  (await vblk<{ disks: DiskInfo[] }>(['list', qemu.socket])).envelope.result?.disks.map(({ id }) => id)

test('--dry-run shows the commands and changes nothing', async () => {
  const { exitCode, envelope } = await apply(await file(two()), '--dry-run')
  expect({ exitCode, actions: actions(envelope.result) }).toEqual({ exitCode: 0, actions: ['attach a', 'attach b'] })
  expect(envelope.result?.commands.map(({ execute }) => execute)).toEqual([
    'blockdev-add',
    'device_add',
    'blockdev-add',
    'device_add',
  ])
  const buses = envelope.result?.commands.map((command) => (command.arguments as { bus?: string }).bus)
  expect(buses).toEqual([undefined, 'rp1', undefined, 'rp2'])
  expect(await ids()).toEqual(['foreign'])
})

test('attaches what is listed, and is done already the second time', async () => {
  const path = await file(two())
  const first = await apply(path)
  expect(first).toMatchObject({ exitCode: 0, envelope: { result: { changed: true } } })
  expect(await ids()).toEqual(['a', 'b', 'foreign'])
  expect(await apply(path)).toMatchObject({ exitCode: 0, envelope: { result: { changed: false, commands: [] } } })
  expect((await vblk(['apply', path], { text: true })).stdout).toBe(`${qemu.socket} is so already: 2 disks\n`)
})

test('what differs is named, and nothing is changed without --replace', async () => {
  const path = await file(
    two().replace('serial: "1"', 'serial: "2"').replace('queues: 2', 'queues: 2\n  - {id: c, file: c d.raw}'),
  )
  const refused = await apply(path)
  expect(refused).toMatchObject({ exitCode: 5, envelope: { error: { code: 'DISK_DIFFERS' } } })
  expect(refused.envelope.error?.message).toContain('a: serial is 1, not 2')
  expect(await ids()).toEqual(['a', 'b', 'foreign'])
})

test('--replace detaches and attaches again, as --dry-run has printed', async () => {
  const path = await file(two().replace('serial: "1"', 'serial: "2"'))
  const dry = await apply(path, '--replace', '--dry-run')
  const { exitCode, envelope } = await apply(path, '--replace')
  expect(envelope.result?.commands).toEqual(dry.envelope.result?.commands)
  expect(envelope.result?.commands).toHaveLength(4)
  expect({ exitCode, actions: actions(envelope.result) }).toEqual({ exitCode: 0, actions: ['replace a', 'keep b'] })
  expect((await vblk(['show', qemu.socket, 'a'])).envelope.result).toMatchObject({ disk: { serial: '2' } })
})

test('a disk gets its block sizes and limits, and keeps them', async () => {
  const name = await file(`vm: ${qemu.socket}
disks:
  - id: limited
    file: c d.raw
    logical-block-size: 4096
    discard: ignore
    bandwidth: 20M
    iops: 100
`)
  const first = await apply(name)
  expect(first.envelope).toMatchObject({ ok: true })
  expect(actions(first.envelope.result)).toContain('attach limited')
  expect((await apply(name)).envelope).toMatchObject({ ok: true, result: { changed: false } })
  const { envelope } = await vblk<{ disk: DiskInfo }>(['show', qemu.socket, 'limited'])
  expect(envelope.result?.disk).toMatchObject({
    blockSize: { logical: 4096, physical: 4096 },
    discard: 'ignore',
    limits: { bytesPerSecond: 20 << 20, requestsPerSecond: 100 },
  })
  await vblk(['detach', qemu.socket, 'limited'])
})

test("what isn't listed is left alone without --prune, and what vblk didn't attach always", async () => {
  const onlyB = `disks: [{id: b, file: ${dir}/b.raw, datapath: userspace}]`
  const left = await apply(await file(onlyB), '--vm', qemu.socket)
  expect({ exitCode: left.exitCode, actions: actions(left.envelope.result) }).toEqual({
    exitCode: 0,
    actions: ['keep b', 'leave a'],
  })
  const pruned = await apply(await file(onlyB), '--vm', qemu.socket, '--prune')
  expect(actions(pruned.envelope.result)).toEqual(['keep b', 'detach a'])
  expect(await ids()).toEqual(['b', 'foreign'])
})

test('a failure in the middle says what was done before', async () => {
  const text = `vm: ${qemu.socket}
disks:
  - {id: a, file: a.raw, datapath: userspace}
  - {id: c, file: c d.raw, datapath: userspace, bus: nowhere}
`
  const failed = await apply(await file(text))
  expect(failed).toMatchObject({
    exitCode: 5,
    envelope: { error: { details: { done: [{ id: 'a', action: 'attach' }] } } },
  })
  expect(failed.envelope.error?.message).toContain('done before: attach a')
  expect(await ids()).toEqual(['a', 'b', 'foreign'])
})

test.each([
  ['nothing', '', 'no mapping'],
  ['a list', '[]', 'no mapping'],
  ['no disks', 'vm: x', 'disks is no list'],
  ['half YAML', 'disks: [{id: a', 'line 1'],
  ['a key twice', 'disks: []\ndisks: []', 'line 2'],
  ['an unknown key', 'disks: [{id: a, file: b, size: 1G}]', "unknown 'size'"],
  ['no id', 'disks: [{file: b}]', 'disks[0] has no id'],
  ['an id twice', 'disks: [{id: a, file: b}, {id: a, file: c}]', 'there twice'],
  ['text for a number', 'disks: [{id: a, file: b, queues: many}]', 'disks[0].queues'],
  ['a list for a text', 'disks: [{id: [a], file: b}]', 'disks[0].id'],
  ['no such choice', 'disks: [{id: a, file: b, cache: unsafe}]', 'disks[0].cache'],
  ['no block size', 'disks: [{id: a, file: b, logical-block-size: 4k}]', 'disks[0].logical-block-size'],
  ['no rate', 'disks: [{id: a, file: b, bandwidth: fast}]', 'disks[0].bandwidth'],
  ['a tag', 'disks: !!js/function "function(){}"', 'disks is no list'],
  [
    'a bomb of aliases',
    `a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefgh'
      .split('')
      .map((name, i) => `${name}: &${name} [${Array(9).fill(`*${'abcdefg'[i]}`)}]`)
      .join('\n')}\ndisks: *h`,
    'alias',
  ],
])('%s is refused with its place', async (_what, text, message) => {
  const { exitCode, envelope } = await apply(await file(text))
  expect({ exitCode, code: envelope.error?.code }).toEqual({ exitCode: 2, code: 'BAD_STATE_FILE' })
  expect(envelope.error?.message).toContain(message)
})

test('what is no file is not waited for', async () => {
  const pipe = join(dir, 'pipe')
  execFileSync('mkfifo', [pipe])
  await mkdir(join(dir, 'folder'))
  expect((await apply(join(dir, 'absent.yaml'))).exitCode).toBe(3)
  expect((await apply(join(dir, 'folder'))).exitCode).toBe(2)
  expect((await apply(pipe, '--timeout', '5')).exitCode).toBe(2)
  expect(await apply(await file('disks: []'))).toMatchObject({ exitCode: 2, envelope: { error: { code: 'NO_VM' } } })
})
