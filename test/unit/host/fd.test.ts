// SPDX-License-Identifier: GPL-2.0-or-later
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { constants, fstatSync, mkdtempSync, readFileSync, readSync, rmSync, statSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import {
  closeFd,
  connectFd,
  copyFd,
  ioctl,
  loadAddon,
  openFd,
  peerCredentials,
  sendFds,
  tryLock,
} from '../../../src/host/fd.ts'

let dir: string
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'vblk-fd-'))
})
afterAll(() => rmSync(dir, { recursive: true }))

function fileWith(content: string): string {
  const path = join(dir, `file-${Math.random()}`)
  writeFileSync(path, content)
  return path
}

describe('openFd and closeFd', () => {
  test('open with the flags given, and always closed on exec', () => {
    const fd = openFd(fileWith('hello'), constants.O_RDONLY)
    const flags = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? ''
    expect(Number.parseInt(flags, 8) & 0o2000000).toBe(0o2000000)
    const buffer = Buffer.alloc(5)
    readSync(fd, buffer)
    expect(buffer.toString()).toBe('hello')
    closeFd(fd)
    expect(() => fstatSync(fd)).toThrow('EBADF')
  })

  test('a new file gets the mode given', () => {
    const path = join(dir, 'created')
    closeFd(openFd(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o640))
    expect(statSync(path).mode & 0o777).toBe(0o640)
  })

  test('errors are like those of node:fs', () => {
    expect(() => openFd(join(dir, 'absent'), constants.O_RDONLY)).toThrow(
      expect.objectContaining({ code: 'ENOENT', errno: -2, syscall: 'open', path: join(dir, 'absent') }),
    )
    expect(() => closeFd(1_000_000)).toThrow(expect.objectContaining({ code: 'EBADF', errno: -9, syscall: 'close' }))
  })

  test('a path is used whole or not at all', () => {
    const path = fileWith('')
    expect(() => openFd(`${path}\0.iso`, constants.O_RDONLY)).toThrow('zero byte')
    expect(() => openFd(`/${'x'.repeat(5000)}`, constants.O_RDONLY)).toThrow('too long')
  })

  test.each([-1, 1.5, Number.NaN, 2 ** 31, '3' as unknown as number])('%p is no descriptor', (fd) => {
    expect(() => closeFd(fd)).toThrow(/not an integer in range|expected a number/)
  })
})

describe('ioctl', () => {
  // _IOR('R', 0, int), which every kernel answers.
  const RNDGETENTCNT = 0x80045200

  test('fills the buffer', () => {
    const fd = openFd('/dev/urandom', constants.O_RDONLY)
    const buffer = Buffer.alloc(4, 0xff)
    expect(ioctl(fd, RNDGETENTCNT, buffer)).toBe(0)
    expect(buffer.readInt32LE()).toBeGreaterThanOrEqual(0)
    closeFd(fd)
  })

  test('refuses a buffer that the size in the number exceeds, and a missing one', () => {
    const fd = openFd('/dev/urandom', constants.O_RDONLY)
    expect(() => ioctl(fd, RNDGETENTCNT, Buffer.alloc(3))).toThrow(expect.objectContaining({ name: 'RangeError' }))
    expect(() => ioctl(fd, RNDGETENTCNT)).toThrow(expect.objectContaining({ name: 'RangeError' }))
    closeFd(fd)
  })

  test('refuses a buffer for a number without a size, where its length could not be checked', () => {
    const fd = openFd('/dev/urandom', constants.O_RDONLY)
    expect(() => ioctl(fd, 0x5401, Buffer.alloc(100))).toThrow(expect.objectContaining({ name: 'RangeError' }))
    closeFd(fd)
  })

  test('reports what the kernel answers', () => {
    const fd = openFd(fileWith(''), constants.O_RDONLY)
    expect(() => ioctl(fd, 0xaf01)).toThrow(expect.objectContaining({ code: 'ENOTTY', syscall: 'ioctl' }))
    closeFd(fd)
  })
})

describe('unix sockets', () => {
  test('another process reads the files whose descriptors it was sent', async () => {
    const path = join(dir, 'receive.sock')
    const receiver = spawn('python3', [join(import.meta.dirname, 'receive-fds.py'), path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const lines = createInterface(receiver.stdout)[Symbol.asyncIterator]()
    expect((await lines.next()).value).toBe('listening')

    const socket = connectFd(path)
    const files = ['first', 'second'].map((text) => openFd(fileWith(text), constants.O_RDONLY))
    sendFds(socket, files)
    expect(JSON.parse((await lines.next()).value)).toEqual({ data: ' ', contents: ['first', 'second'] })
    expect(peerCredentials(socket)).toEqual({ pid: receiver.pid, uid: process.getuid?.(), gid: process.getgid?.() })
    for (const fd of [socket, ...files]) closeFd(fd)
    await once(receiver, 'close')
  })

  test('a connected descriptor works as a net.Socket', async () => {
    const path = join(dir, 'echo.sock')
    const server = net.createServer((peer) => peer.pipe(peer)).listen(path)
    await once(server, 'listening')
    const socket = new net.Socket({ fd: connectFd(path) })
    socket.write('ping')
    const [data] = await once(socket, 'data')
    expect(String(data)).toBe('ping')
    socket.destroy()
    server.close()
  })

  test('errors name what failed', () => {
    expect(() => connectFd(join(dir, 'no.sock'))).toThrow(
      expect.objectContaining({ code: 'ENOENT', syscall: 'connect', path: join(dir, 'no.sock') }),
    )
    expect(() => connectFd(`/${'x'.repeat(108)}`)).toThrow('too long')
    const file = openFd(fileWith(''), constants.O_RDONLY)
    expect(() => peerCredentials(file)).toThrow(expect.objectContaining({ code: 'ENOTSOCK' }))
    expect(() => sendFds(file, [file])).toThrow(expect.objectContaining({ code: 'ENOTSOCK', syscall: 'sendmsg' }))
    closeFd(file)
  })

  test('sends 1 to 253 descriptors', () => {
    expect(() => sendFds(0, [])).toThrow(expect.objectContaining({ name: 'RangeError' }))
    expect(() => sendFds(0, new Array(254).fill(0))).toThrow(expect.objectContaining({ name: 'RangeError' }))
    expect(() => sendFds(0, [1, 'x' as unknown as number])).toThrow(expect.objectContaining({ name: 'TypeError' }))
  })

  test('a full queue of the listener is an error, not a wait', async () => {
    const path = join(dir, 'full.sock')
    const script = `import socket,sys,time
s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(0); print('listening',flush=True); time.sleep(60)`
    const deaf = spawn('python3', ['-c', script, path], { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(deaf.stdout, 'data')
    const first = connectFd(path)
    expect(() => connectFd(path)).toThrow(expect.objectContaining({ code: 'EAGAIN', syscall: 'connect' }))
    closeFd(first)
    deaf.kill()
  })
})

describe('copyFd', () => {
  test("reads through another process's descriptor, past its end", async () => {
    const path = fileWith('of another process')
    const other = spawn('sleep', ['60'], { stdio: [openFd(path, constants.O_RDONLY), 'ignore', 'ignore'] })
    await once(other, 'spawn')
    rmSync(path)
    const fd = copyFd(other.pid ?? 0, 0)
    other.kill()
    await once(other, 'exit')
    const buffer = Buffer.alloc(32)
    expect(buffer.toString('utf8', 0, readSync(fd, buffer))).toBe('of another process')
    closeFd(fd)
    expect(() => copyFd(other.pid ?? 0, 0)).toThrow(expect.objectContaining({ code: 'ESRCH' }))
  })

  test('a descriptor that is not there, and nonsense', () => {
    expect(() => copyFd(process.pid, 1_000_000)).toThrow(
      expect.objectContaining({ code: 'EBADF', syscall: 'pidfd_getfd' }),
    )
    expect(() => copyFd(0, 0)).toThrow(expect.objectContaining({ name: 'RangeError' }))
  })
})

describe('tryLock', () => {
  const tryInAnotherProcess = (path: string, how: string) =>
    spawnSync('flock', ['--nonblock', how, path, 'true']).status

  test('keeps other processes out until the descriptor is closed', () => {
    const path = fileWith('')
    const fd = openFd(path, constants.O_RDONLY)
    expect(tryLock(fd, 'exclusive')).toBe(true)
    expect(tryInAnotherProcess(path, '--shared')).toBe(1)
    expect(tryLock(fd, 'shared')).toBe(true)
    expect(tryInAnotherProcess(path, '--shared')).toBe(0)
    expect(tryInAnotherProcess(path, '--exclusive')).toBe(1)
    closeFd(fd)
    expect(tryInAnotherProcess(path, '--exclusive')).toBe(0)
  })

  test('says no when another open file has it', () => {
    const path = fileWith('')
    const [one, two] = [openFd(path, constants.O_RDONLY), openFd(path, constants.O_RDONLY)]
    expect(tryLock(one, 'exclusive')).toBe(true)
    expect(tryLock(two, 'shared')).toBe(false)
    closeFd(one)
    expect(tryLock(two, 'shared')).toBe(true)
    closeFd(two)
    expect(() => tryLock(two, 'shared')).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'flock' }))
  })
})

describe('loading the addon', () => {
  test('a missing one names its build', () => {
    expect(() => loadAddon([join(dir, 'none.node')])).toThrow(
      expect.objectContaining({ code: 'NO_FD_ADDON', exitCode: 4, hint: expect.stringContaining('native/fd/build') }),
    )
  })

  test('a broken one does too', () => {
    const path = join(dir, 'broken.node')
    writeFileSync(path, 'not an ELF file')
    expect(() => loadAddon([path])).toThrow(expect.objectContaining({ code: 'BAD_FD_ADDON', exitCode: 4 }))
  })
})
