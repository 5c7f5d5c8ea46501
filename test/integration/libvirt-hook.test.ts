// SPDX-License-Identifier: GPL-2.0-or-later
// The hook that libvirt would run, and what QEMU makes of its result. libvirt itself is not there.

import { join } from 'node:path'
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import { execa } from 'execa'
import { builtObject, inRoot } from '../device/root-qemu.ts'
import { root, top } from '../lab/setup/paths.ts'
import { program } from './program.ts'
import { makeFolder, removeFolder } from './qemu.ts'

jest.setTimeout(60_000)

let dir: string
beforeAll(async () => {
  dir = await makeFolder()
  await execa('truncate', ['-s', '1M', join(dir, 'disk.raw')])
})
afterAll(() => removeFolder(dir))

const domain = (emulator: string) => `<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>web</name>
  <devices><emulator>${emulator}</emulator></devices>
  <qemu:commandline>
    <qemu:arg value='-plugin'/><qemu:arg value='file=/of/another/host/vhost-blk.so'/>
    <qemu:arg value='-blockdev'/><qemu:arg value='driver=file,node-name=n1,filename=${dir}/disk.raw'/>
    <qemu:arg value='-device'/><qemu:arg value='vhost-blk-pci,id=d1,drive=n1,vhost=auto'/>
  </qemu:commandline>
</domain>
`

/** Runs the example as libvirt does, for an operation. */
const hook = (operation: string, input: string) =>
  execa(join(top, 'examples/libvirt-hook'), ['web', operation, 'begin', '-'], {
    input,
    reject: false,
    extendEnv: true,
    env: { PATH: `${dir}:${process.env.PATH}` },
  })

beforeAll(() => execa('ln', ['-s', program, join(dir, 'vblk')]))

/** What QEMU with the arguments of a domain says of its disk. */
async function startedWith(xml: string): Promise<{ type: string; cache: string }> {
  const args = [...xml.matchAll(/<qemu:arg value="([^"]*)"\/>/g)].map(([, value = '']) => value)
  const get = (property: string) => ({ execute: 'qom-get', arguments: { path: '/machine/peripheral/d1', property } })
  const commands = [{ execute: 'qmp_capabilities' }, get('type'), get('write-cache'), { execute: 'quit' }]
  const { stdout, stderr } = await inRoot(
    ['qemu-system-x86_64', '-M', 'q35', '-nodefaults', '-display', 'none', '-S', '-qmp', 'stdio', ...args],
    commands.map((command) => JSON.stringify(command)).join('\n'),
  )
  const replies = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  const [, , type, cache] = replies.filter((reply) => reply.event === undefined)
  if (type?.return === undefined) throw new Error(stderr + stdout)
  return { type: type.return, cache: cache.return }
}

test('an incoming domain loads the device of this host', async () => {
  const { exitCode, stdout, stderr } = await hook('migrate', domain(join(root, 'usr/bin/qemu-system-x86_64')))
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' })
  expect(stdout).toContain(`<qemu:arg value="file=${await builtObject()}"/>`)
  expect(await startedWith(stdout)).toEqual({ type: 'vhost-blk-pci', cache: 'auto' })
})

test('where there is no device its disk is virtio-blk, with the write cache off', async () => {
  const { exitCode, stdout, stderr } = await hook('restore', domain('/bin/ls'))
  expect(exitCode).toBe(0)
  expect(stderr).toMatch(
    /there is no vhost-blk device for .*; QEMU will serve the disks of d1, with the write cache off$/,
  )
  expect(await startedWith(stdout)).toEqual({ type: 'virtio-blk-pci', cache: 'off' })
})

test('what is not understood stops the migration, with one line', async () => {
  const { exitCode, stdout, stderr } = await hook('migrate', '<domain>')
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' })
  expect(stderr).toMatch(/^Error: this is no domain's XML: unclosed xml tag\(s\): domain\n/)
})

test('other operations and other domains are let alone', async () => {
  expect(await hook('started', domain('/bin/ls'))).toMatchObject({ exitCode: 0, stdout: '', stderr: '' })
  const other = "<domain type='kvm'>\n  <name>a &#38; b</name>\n</domain>"
  expect(await hook('migrate', other)).toMatchObject({ exitCode: 0, stdout: other, stderr: '' })
})
