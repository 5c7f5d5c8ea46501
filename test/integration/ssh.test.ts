// SPDX-License-Identifier: GPL-2.0-or-later
// VMs of another host, through the system's ssh. The other host's sshd is ssh2's, which opens real sockets here.

import { execFileSync } from 'node:child_process'
import { chmod, readdir, readFile, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import ssh2, { type Server } from 'ssh2'
import { makeFolder, Qemu, removeFolder, startVblk, vblk } from './qemu.ts'

jest.setTimeout(60_000)

let dir: string
let qemu: Qemu
let server: Server
let accepts = true
const path = process.env.PATH ?? ''

const forwardings = async () => (await readdir(tmpdir())).filter((name) => name.startsWith('vblk-ssh-'))

beforeAll(async () => {
  dir = await makeFolder()
  qemu = await Qemu.start(dir, 'vm')
  execFileSync('ssh-keygen', ['-q', '-t', 'ecdsa', '-N', '', '-f', join(dir, 'key')])
  server = new ssh2.Server({ hostKeys: [await readFile(join(dir, 'key'))] }, (connection) => {
    connection.on('authentication', (context) => {
      if (accepts) context.accept()
      else context.reject()
    })
    connection.on('error', () => {})
    connection.on('openssh.streamlocal', (accept, reject, { socketPath }) => {
      const target = net.connect(socketPath)
      target.once('error', reject)
      target.once('connect', () => {
        const stream = accept()
        stream.pipe(target).pipe(stream)
        stream.on('close', () => target.destroy())
      })
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  // The user's own configuration must not matter here.
  const options = [`-F /dev/null -i ${dir}/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null`]
  await writeFile(join(dir, 'ssh'), `#!/bin/sh\nexec /usr/bin/ssh ${options} "$@"\n`)
  await chmod(join(dir, 'ssh'), 0o755)
  process.env.PATH = `${dir}:${path}`
})

afterAll(async () => {
  process.env.PATH = path
  server?.close()
  await qemu?.stop()
  await removeFolder(dir)
})

const address = (socket: string) => `ssh://root@127.0.0.1:${server.address().port}${socket}`

test('a VM of another host is read, and no forwarding stays', async () => {
  const before = await forwardings()
  expect(await vblk(['list', address(qemu.socket)])).toMatchObject({ exitCode: 0, envelope: { result: { disks: [] } } })
  expect(await vblk(['vm', 'show', address(qemu.socket)])).toMatchObject({ envelope: { result: { pid: null } } })
  expect(await forwardings()).toEqual(before)
})

test('its events arrive', async () => {
  const events = startVblk(['events', address(qemu.socket), '--event', 'STOP', '--count', '1', '--timeout', '30'], {
    text: true,
  })
  let ended = false
  void events.outcome.finally(() => {
    ended = true
  })
  // It takes a moment until it listens.
  while (!ended) {
    await qemu.qmp.execute('stop')
    await qemu.qmp.execute('cont')
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  const { exitCode, stdout } = await events.outcome
  expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: expect.stringContaining(' STOP {}') })
})

test('a socket that is not there, and a host that refuses us, are told apart, with their words', async () => {
  const absent = await vblk(['list', address(join(dir, 'none.sock'))])
  expect(absent.exitCode).toBe(3)
  expect(absent.envelope.error?.message).toContain('no such socket')
  accepts = false
  const refused = await vblk(['list', address(qemu.socket)])
  accepts = true
  expect(refused).toMatchObject({ exitCode: 3, envelope: { error: { code: 'SSH_FAILED' } } })
  expect(refused.envelope.error?.message).toMatch(/Permission denied/)
})

test('what needs the files of that host is refused with the way to do it', async () => {
  expect(await vblk(['resize', address(qemu.socket), 'd1', '1G'])).toMatchObject({
    exitCode: 5,
    envelope: { error: { code: 'VM_IS_REMOTE', hint: expect.stringContaining('ssh HOST vblk') } },
  })
})

test('without ssh the package is named', async () => {
  process.env.PATH = join(dir, 'nothing')
  const { exitCode, envelope } = await vblk(['list', address(qemu.socket)])
  process.env.PATH = `${dir}:${path}`
  expect({ exitCode, envelope }).toMatchObject({
    exitCode: 4,
    envelope: { error: { code: 'NO_TOOL', hint: 'apt-get install openssh-client' } },
  })
})
