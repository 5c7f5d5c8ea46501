// SPDX-License-Identifier: GPL-2.0-or-later
// VMs by name and by other addresses than a path, on real QEMUs.

import { execFileSync } from 'node:child_process'
import { chmod, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals'
import type { VmShowResult } from '../../src/commands/vm/show.ts'
import type { VmDisks } from '../../src/disk/list-vms.ts'
import { makeFolder, makeImage, Qemu, removeFolder, vblk } from './qemu.ts'

jest.setTimeout(120_000)

let dir: string
let qemu: Qemu
let tcpPort: number
let tlsPort: number
const config = () => join(dir, 'config')

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as net.AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** An authority and certificates for "localhost" and for a client, in the names that QEMU's tls-creds-x509 wants. */
async function makeCertificates(): Promise<void> {
  const tls = join(dir, 'tls')
  await mkdir(tls)
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: tls, stdio: 'pipe' })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  const use = '-addext keyUsage=critical,digitalSignature'.split(' ')
  openssl('req', '-x509', ...key, '-keyout', 'ca-key.pem', '-out', 'ca-cert.pem', '-subj', '/CN=test', '-days', '2')
  for (const [name, subject, extended] of [
    ['server', '/CN=localhost', 'serverAuth'],
    ['client', '/CN=client', 'clientAuth'],
  ] as const) {
    openssl('req', ...key, '-keyout', `${name}-key.pem`, '-out', `${name}.csr`, '-subj', subject, ...use)
    const extensions = `keyUsage=critical,digitalSignature\nextendedKeyUsage=${extended}\nsubjectAltName=DNS:localhost\n`
    await writeFile(join(tls, `${name}.ext`), extensions)
    const signed = ['-CA', 'ca-cert.pem', '-CAkey', 'ca-key.pem', '-extfile', `${name}.ext`, '-days', '1']
    openssl('x509', '-req', '-in', `${name}.csr`, '-out', `${name}-cert.pem`, '-CAcreateserial', ...signed)
  }
}

beforeAll(async () => {
  dir = await makeFolder()
  await makeCertificates()
  tcpPort = await freePort()
  tlsPort = await freePort()
  qemu = await Qemu.start(dir, 'vm', {
    args: [
      ...['-chardev', `socket,id=tcp,host=127.0.0.1,port=${tcpPort},server=on,wait=off`, '-mon', 'tcp,mode=control'],
      ...['-object', `tls-creds-x509,id=creds,dir=${join(dir, 'tls')},endpoint=server,verify-peer=on`],
      ...['-chardev', `socket,id=tls,host=127.0.0.1,port=${tlsPort},server=on,wait=off,tls-creds=creds`],
      ...['-mon', 'tls,mode=control'],
    ],
  })
})

beforeEach(async () => {
  process.env.VBLK_CONFIG_DIR = config()
  await removeFolder(config())
})

afterAll(async () => {
  delete process.env.VBLK_CONFIG_DIR
  await qemu?.stop()
  await removeFolder(dir)
})

describe('registered names', () => {
  test('stand for the VM in every command until they are removed', async () => {
    expect(await vblk(['vm', 'add', 'web-1', qemu.socket])).toMatchObject({
      exitCode: 0,
      envelope: { result: { name: 'web-1', address: qemu.socket, changed: true } },
    })
    expect(await vblk(['vm', 'add', 'web-1', qemu.socket])).toMatchObject({ envelope: { result: { changed: false } } })
    expect(await vblk(['list', 'web-1'])).toMatchObject({ exitCode: 0, envelope: { result: { disks: [] } } })
    const image = await makeImage(join(dir, 'named.raw'))
    const attach = ['attach', 'web-1', image, '--id', 'd1', '--datapath', 'userspace', '--timeout', '2', '--dry-run']
    expect((await vblk(attach)).exitCode).toBe(0)
    expect((await vblk<VmShowResult>(['vm', 'show', 'web-1'])).envelope.result).toMatchObject({
      address: qemu.socket,
      qemu: expect.stringMatching(/^10\.0\./),
      status: 'running',
      vhostBlk: true,
      slots: { total: 2, free: 2 },
    })
    expect((await vblk(['vm', 'list'], { text: true })).stdout).toBe(`NAME   ADDRESS\nweb-1  ${qemu.socket}\n`)
    expect((await vblk(['vm', 'remove', 'web-1', '--dry-run'], { text: true })).stdout).toBe(
      'web-1 would be forgotten\n',
    )
    expect(await vblk(['vm', 'remove', 'web-1'])).toMatchObject({
      exitCode: 0,
      envelope: { result: { changed: true } },
    })
    expect(await vblk(['vm', 'remove', 'web-1'])).toMatchObject({
      exitCode: 0,
      envelope: { result: { changed: false } },
    })
    expect(await vblk(['list', 'web-1'])).toMatchObject({ exitCode: 3, envelope: { error: { code: 'VM_NOT_FOUND' } } })
    expect((await vblk(['vm', 'list'], { text: true })).stdout).toBe('no registered VMs\n')
  })

  test('are kept in private files', async () => {
    await vblk(['vm', 'add', 'a', qemu.socket])
    const [file] = await readdir(join(config(), 'vms'))
    expect(file).toBe('a.json')
    expect((await stat(join(config(), 'vms', 'a.json'))).mode & 0o777).toBe(0o600)
    expect((await stat(join(config(), 'vms'))).mode & 0o777).toBe(0o700)
  })

  test('a name is never taken over silently, and --dry-run writes nothing', async () => {
    await vblk(['vm', 'add', 'a', qemu.socket])
    const other = ['vm', 'add', 'a', '/run/other.qmp']
    expect(await vblk(other)).toMatchObject({ exitCode: 5, envelope: { error: { code: 'NAME_TAKEN' } } })
    expect(await vblk([...other, '--replace', '--dry-run'])).toMatchObject({ exitCode: 0 })
    expect(await readFile(join(config(), 'vms', 'a.json'), 'utf8')).toContain(qemu.socket)
    expect((await vblk([...other, '--replace'])).exitCode).toBe(0)
    expect((await vblk(['list', 'a'])).exitCode).toBe(3)
  })

  test('--check registers only what answers', async () => {
    expect((await vblk(['vm', 'add', 'dead', join(dir, 'none.sock'), '--check'])).exitCode).toBe(3)
    expect((await vblk(['vm', 'add', 'alive', qemu.socket, '--check'])).exitCode).toBe(0)
    expect(await readdir(join(config(), 'vms'))).toEqual(['alive.json'])
  })

  test.each(['', '-x', '../x', 'a/b', 'a b', 'x'.repeat(65), 'tcp:a:1'])('%j is no name', async (name) => {
    expect((await vblk(['vm', 'add', name, qemu.socket])).exitCode).toBe(2)
  })

  test('a file that is damaged, foreign or hostile is not used', async () => {
    const folder = join(config(), 'vms')
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const file = join(folder, 'a.json')
    for (const text of [
      '',
      '{',
      '[]',
      '{"address":5}',
      '{"address":"nowhere"}',
      `{"address":"${'x/'.repeat(9000)}"}`,
    ]) {
      await writeFile(file, text, { mode: 0o600 })
      expect({ text: text.slice(0, 30), ...(await vblk(['list', 'a'])) }).toMatchObject({
        exitCode: 5,
        envelope: { error: { code: 'BAD_REGISTRATION' } },
      })
    }
    await writeFile(file, JSON.stringify({ address: qemu.socket }), { mode: 0o600 })
    expect((await vblk(['list', 'a'])).exitCode).toBe(0)
    await chmod(file, 0o666)
    expect(await vblk(['list', 'a'])).toMatchObject({ exitCode: 5, envelope: { error: { code: 'BAD_REGISTRATION' } } })
  })
})

describe('many VMs', () => {
  test('are listed at the same time, each for itself', async () => {
    const other = await Qemu.start(dir, 'other', {
      args: [...['-blockdev', 'null-co,node-name=n0,size=1048576', '-device', 'virtio-blk-pci,drive=n0,id=d9']],
    })
    await vblk(['vm', 'add', 'a', qemu.socket])
    await vblk(['vm', 'add', 'b', other.socket])
    const { exitCode, envelope } = await vblk<{ vms: VmDisks[] }>(['list'])
    expect(exitCode).toBe(0)
    expect(envelope.result?.vms).toMatchObject([
      { vm: 'a', disks: [], error: null },
      { vm: 'b', disks: [{ id: 'd9' }], error: null },
    ])
    const text = (await vblk(['list', 'b', 'a'], { text: true })).stdout.split('\n')
    expect(text[0]).toMatch(/^VM +ID +SIZE/)
    expect(text[1]).toMatch(/^b +d9 +1 MiB/)
    expect(text[2]).toMatch(/^a +- .*no virtio disks$/)
    await other.stop()
    const failed = await vblk(['list'])
    expect(failed).toMatchObject({
      exitCode: 3,
      envelope: {
        error: {
          code: 'SOME_VMS_FAILED',
          details: {
            vms: [
              { vm: 'a', error: null },
              { vm: 'b', disks: null, error: { code: 'SOCKET_DEAD' } },
            ],
          },
        },
      },
    })
    expect((await vblk(['list'], { text: true })).stdout).toMatch(/^b +- .*nobody listens on this socket$/m)
  })

  test('a hundred, by one command', async () => {
    for (const number of Array(100).keys()) {
      const path = join(dir, `alias-${number}`)
      await symlink(join(dir, 'none.sock'), path).catch(() => {})
      await mkdir(join(config(), 'vms'), { recursive: true })
      await writeFile(join(config(), 'vms', `vm${number}.json`), JSON.stringify({ address: path }), { mode: 0o600 })
    }
    const { envelope } = await vblk(['list'])
    const vms = envelope.error?.details?.vms as VmDisks[]
    expect(vms.map(({ vm }) => vm)).toEqual(Array.from({ length: 100 }, (_, number) => `vm${number}`))
    expect(new Set(vms.map(({ error }) => error?.code))).toEqual(new Set(['NO_SUCH_SOCKET']))
  })
})

describe('over the network', () => {
  const tls = (query: string) => `tls:localhost:${tlsPort}${query}`
  const file = (name: string) => join(dir, 'tls', name)

  test('tcp: the VM is found, read and changed; what needs its host is refused', async () => {
    const address = `tcp:127.0.0.1:${tcpPort}`
    expect(await vblk(['vm', 'show', address])).toMatchObject({ exitCode: 0, envelope: { result: { pid: null } } })
    const detach = await vblk(['detach', address, 'absent'])
    expect(detach).toMatchObject({ exitCode: 0, envelope: { result: { changed: false } } })
    expect(detach.envelope.warnings).toEqual([expect.stringContaining('not locked against another vblk')])
    const image = await makeImage(join(dir, 'remote.raw'))
    expect(await vblk(['attach', address, image, '--id', 'd1'])).toMatchObject({
      exitCode: 5,
      envelope: { error: { code: 'VM_IS_REMOTE', hint: expect.stringContaining('run vblk on that host') } },
    })
  })

  test('tcp: a monitor that another client holds is busy', async () => {
    const holder = net.connect(tcpPort, '127.0.0.1')
    await new Promise((resolve) => holder.once('data', resolve))
    const outcome = await vblk(['list', `tcp:127.0.0.1:${tcpPort}`, '--timeout', '3'])
    holder.destroy()
    expect(outcome).toMatchObject({ exitCode: 9, envelope: { error: { code: 'VM_BUSY' } } })
  })

  test('tcp: a port where nobody listens, and a host that is none', async () => {
    const port = await freePort()
    expect(await vblk(['list', `tcp:127.0.0.1:${port}`])).toMatchObject({
      exitCode: 3,
      envelope: { error: { code: 'SOCKET_DEAD' } },
    })
    expect((await vblk(['list', `tcp:none.invalid:${port}`])).exitCode).toBe(3)
  })

  test('tls: with a certificate that the other side trusts', async () => {
    const query = `?ca=${file('ca-cert.pem')}&cert=${file('client-cert.pem')}&key=${file('client-key.pem')}`
    expect(await vblk(['list', tls(query)])).toMatchObject({ exitCode: 0, envelope: { result: { disks: [] } } })
  })

  test('tls: who the other side is, and who we are, is checked', async () => {
    expect(await vblk(['list', tls('')])).toMatchObject({ exitCode: 4, envelope: { error: { code: 'TLS_FAILED' } } })
    const withoutOurs = await vblk(['list', tls(`?ca=${file('ca-cert.pem')}`)])
    expect({ exitCode: withoutOurs.exitCode, ok: withoutOurs.envelope.ok }).toEqual({ exitCode: 3, ok: false })
    const wrongName = `tls:127.0.0.1:${tlsPort}?ca=${file('ca-cert.pem')}`
    expect(await vblk(['list', wrongName])).toMatchObject({ exitCode: 4, envelope: { error: { code: 'TLS_FAILED' } } })
    expect((await vblk(['list', tls(`?ca=${file('none.pem')}`)])).exitCode).toBe(3)
    await writeFile(file('junk.pem'), 'junk')
    expect((await vblk(['list', tls(`?cert=${file('junk.pem')}&key=${file('junk.pem')}`)])).exitCode).toBe(4)
  })
})
