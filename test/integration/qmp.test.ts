// SPDX-License-Identifier: GPL-2.0-or-later
// Sockets that are not a free QMP monitor, as every command meets them.

import { once } from 'node:events'
import { link } from 'node:fs/promises'
import net from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals'
import { QmpClient, QmpCommandError } from '../../src/qmp/index.ts'
import { listSlots } from '../../src/vm/slots.ts'
import { openVm, readFacts } from '../../src/vm/vm.ts'
import { makeFolder, makeImage, Qemu, removeFolder, vblk } from './qemu.ts'

jest.setTimeout(120_000)

let dir: string
beforeAll(async () => {
  dir = await makeFolder()
})
afterAll(() => removeFolder(dir))

const list = (socket: string, ...argv: string[]) => vblk(['list', socket, ...argv])

describe('a socket that is not QMP', () => {
  test('no such path', async () => {
    expect(await list(join(dir, 'none'))).toMatchObject({
      exitCode: 3,
      envelope: { error: { code: 'NO_SUCH_SOCKET' } },
    })
  })

  test('a file', async () => {
    expect(await list(await makeImage(join(dir, 'file')))).toMatchObject({
      exitCode: 3,
      envelope: { error: { code: 'NOT_A_SOCKET' } },
    })
  })

  test('a socket of a dead server', async () => {
    const server = net.createServer().listen(join(dir, 'live.sock'))
    await once(server, 'listening')
    await link(join(dir, 'live.sock'), join(dir, 'dead.sock'))
    server.close()
    await once(server, 'close')
    expect(await list(join(dir, 'dead.sock'))).toMatchObject({
      exitCode: 3,
      envelope: { error: { code: 'SOCKET_DEAD' } },
    })
  })

  test('a server that greets with something else', async () => {
    const server = net.createServer((socket) => socket.write('220 mail ESMTP\r\n')).listen(join(dir, 'mail.sock'))
    await once(server, 'listening')
    const { exitCode, envelope } = await list(join(dir, 'mail.sock'))
    server.close()
    expect(exitCode).toBe(3)
    expect(envelope.error).toMatchObject({
      code: 'NOT_QMP',
      message: expect.stringMatching(/mail\.sock is not a QMP socket: .*220 mail ESMTP/),
    })
  })

  test('a server that takes the connection and says nothing', async () => {
    const server = net.createServer(() => {}).listen(join(dir, 'mute.sock'))
    await once(server, 'listening')
    const { exitCode, envelope } = await list(join(dir, 'mute.sock'), '--timeout', '1')
    server.close()
    expect(exitCode).toBe(3)
    expect(envelope.error).toMatchObject({ code: 'NOT_QMP', message: expect.stringContaining('no greeting') })
  })
})

describe('a real QEMU', () => {
  let qemu: Qemu
  beforeAll(async () => {
    qemu = await Qemu.start(dir, 'vm', { ports: 11, args: ['-device', 'virtio-rng-pci,bus=rp2'] })
  })
  afterAll(() => qemu?.stop())

  test('held by another client is busy, and free again when that one ends', async () => {
    const holder = await QmpClient.connect({ path: qemu.socket })
    const start = Date.now()
    const { exitCode, envelope } = await list(qemu.socket)
    expect(exitCode).toBe(9)
    expect(envelope.error).toMatchObject({ code: 'VM_BUSY', message: expect.stringContaining('another client') })
    expect(Date.now() - start).toBeLessThan(8000)
    await holder.close()
    expect((await list(qemu.socket)).exitCode).toBe(0)
  })

  test('that does not run (SIGSTOP) is not called busy', async () => {
    qemu.process.kill('SIGSTOP')
    try {
      const { exitCode, envelope } = await list(qemu.socket, '--timeout', '1')
      expect(exitCode).toBe(6)
      expect(envelope.error).toMatchObject({ code: 'VM_NOT_ANSWERING' })
    } finally {
      qemu.process.kill('SIGCONT')
    }
  })

  test('tells what it is', async () => {
    const vm = await openVm(qemu.socket)
    expect(await readFacts(vm)).toMatchObject({
      version: { qemu: { major: 10, minor: 0 } },
      status: { running: true, status: 'running' },
      machine: expect.stringMatching(/^pc-q35-10\.0/),
      hasVhostBlk: true,
    })
    await vm.qmp.close()
  })

  test('lists its hot-plug ports in the order of their numbers, and what sits in them', async () => {
    const vm = await openVm(qemu.socket)
    const slots = await listSlots(vm)
    await vm.qmp.close()
    expect(slots.map(({ bus }) => bus)).toEqual(Array.from({ length: 11 }, (_, index) => `rp${index + 1}`))
    expect(slots.filter(({ occupants }) => occupants.length > 0)).toEqual([
      { bus: 'rp2', occupants: ['virtio-rng-pci'] },
    ])
  })

  test('refuses a nonsense command with its own words', async () => {
    await expect(qemu.qmp.execute('device_del', { id: 'none' })).rejects.toMatchObject({
      errorClass: 'DeviceNotFound',
      desc: "Device 'none' not found",
    })
  })

  test('shows its traffic with --verbose, on stderr', async () => {
    const { stdout, stderr, exitCode } = await vblk(['list', qemu.socket, '--verbose'])
    expect(exitCode).toBe(0)
    expect(() => JSON.parse(stdout)).not.toThrow()
    expect(stderr).toContain('-> {"execute":"qmp_capabilities"')
  })
})

test('an out-of-band command is answered while another hangs', async () => {
  // A storage server that takes the connection and says nothing: QEMU's main loop waits for it.
  const qemu = await Qemu.start(dir, 'band')
  const path = join(dir, 'silent.sock')
  const server = net.createServer()
  server.listen(path)
  await once(server, 'listening')
  const client = await QmpClient.connect({ path: qemu.socket, outOfBand: true })
  try {
    expect(client.hasOutOfBand).toBe(true)
    const node = { driver: 'nbd', 'node-name': 'silent', server: { type: 'unix', path } }
    const seen = once(server, 'connection')
    const hanging = client.execute('blockdev-add', node as never).catch((error: Error) => error)
    const [connection] = (await seen) as [net.Socket]
    expect(await client.executeOutOfBand('query-yank')).toContainEqual({ type: 'block-node', 'node-name': 'silent' })
    connection.destroy()
    const outcome = await hanging
    expect(outcome).toBeInstanceOf(QmpCommandError)
    expect(outcome).toMatchObject({ errorClass: 'GenericError' })
    expect(await client.execute('query-status')).toMatchObject({ status: 'running' })
  } finally {
    await client.close()
    server.close()
    await qemu.stop()
  }
})

test('without out-of-band nothing is sent', async () => {
  const qemu = await Qemu.start(dir, 'in-band')
  const client = await QmpClient.connect({ path: qemu.socket })
  try {
    await expect(client.executeOutOfBand('query-yank')).rejects.toMatchObject({ name: 'QmpStateError' })
    expect(await client.execute('query-yank')).toContainEqual({ type: 'chardev', id: expect.any(String) })
  } finally {
    await client.close()
    await qemu.stop()
  }
})
