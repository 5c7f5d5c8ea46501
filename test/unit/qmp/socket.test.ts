// SPDX-License-Identifier: GPL-2.0-or-later

import { link, mkdtemp, rm, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { countConnections, openSocket, readBacklog } from '../../../src/qmp/socket.ts'

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'vblk-socket-'))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

// As Linux 6.12 shows a monitor that one client holds while another waits.
const table = `Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 11 /run/a.sock
0000000000000000: 00000003 00000000 00000000 0001 03 12 /run/a.sock
0000000000000000: 00000002 00000000 00000000 0001 02     0 /run/a.sock
0000000000000000: 00000003 00000000 00000000 0001 03 14
0000000000000000: 00000003 00000000 00000000 0001 03 15 rel/b.sock
0000000000000000: 00000003 00000000 00000000 0001 03 16 @/run/a.sock
0000000000000000: 00000003 00000000 00000000 0001 03 17 /run/a.sock.other
`

test('counts the connections of one socket', () => {
  expect(countConnections(table, new Set(['/run/a.sock']))).toEqual({ accepted: 1, waiting: 1 })
})

test('matches a name that the server bound relative to its folder', () => {
  expect(countConnections(table, new Set(['/some/rel/b.sock']))).toEqual({ accepted: 1, waiting: 0 })
})

test('knows when a socket is not shown', () => {
  expect(countConnections(table, new Set(['/run/none.sock']))).toBeUndefined()
})

test("reads this kernel's own table", async () => {
  const path = join(dir, 'live.sock')
  const server = net.createServer()
  await new Promise<void>((resolve) => server.listen(path, resolve))
  const accepted = new Promise((resolve) => server.once('connection', resolve))
  const socket = await openSocket(path, { timeoutMs: 1000 })
  await accepted
  expect(await readBacklog(path)).toEqual({ accepted: 1, waiting: 0 })
  socket.destroy()
  server.close()
})

test.each([
  ['a missing path', async () => join(dir, 'none'), 'NO_SUCH_SOCKET', 3],
  ['a path under a file', async () => join(await file('f'), 'x'), 'NO_SUCH_SOCKET', 3],
  ['a file', () => file('g'), 'NOT_A_SOCKET', 3],
  ['a folder', async () => dir, 'NOT_A_SOCKET', 3],
  ['a path that no socket can have', async () => `/tmp/${'x'.repeat(120)}`, 'SOCKET_PATH_TOO_LONG', 2],
])('names %s', async (_what, makePath, code, exitCode) => {
  await expect(openSocket(await makePath(), { timeoutMs: 1000 })).rejects.toMatchObject({ code, exitCode })
})

test('names a socket whose server is gone', async () => {
  const path = join(dir, 'dead.sock')
  // The server unlinks its path when it closes; a second name for the same socket survives it.
  const server = net.createServer()
  await new Promise<void>((resolve) => server.listen(`${path}.live`, resolve))
  await link(`${path}.live`, path)
  await new Promise((resolve) => server.close(resolve))
  await expect(openSocket(path, { timeoutMs: 1000 })).rejects.toMatchObject({ code: 'SOCKET_DEAD', exitCode: 3 })
})

async function file(name: string): Promise<string> {
  const path = join(dir, name)
  await writeFile(path, '')
  return path
}
