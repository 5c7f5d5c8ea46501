// SPDX-License-Identifier: GPL-2.0-or-later
// Domains of a real libvirt, with Debian's settings: QEMU is another user, in a sandbox, and libvirt holds its monitor.

import { once } from 'node:events'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import { top } from '../lab/setup/paths.ts'
import { domainXml, LibvirtHost } from './libvirt.ts'
import { makeFolder, makeImage, removeFolder, vblk } from './qemu.ts'

jest.setTimeout(90_000)

let dir: string
let host: LibvirtHost
let image: string

beforeAll(async () => {
  dir = await makeFolder()
  host = await LibvirtHost.start(dir, join(top, 'examples/libvirt-hook'))
  image = await makeImage(join(dir, 'disk.raw'))
  await chmod(image, 0o644)
  await host.startDomain('web')
  await host.defineDomain('off')
}, 300_000)

afterAll(async () => {
  await host?.stop()
  await removeFolder(dir)
})

interface Listed {
  disks: { id: string; file: string; datapath: string }[]
}

test('a disk comes and goes through libvirt', async () => {
  const attach = ['attach', 'libvirt:web', image, '--id', 'd1', '--datapath', 'userspace', '--read-only']
  expect(await host.vblk(...attach)).toMatchObject({
    exitCode: 0,
    envelope: { result: { changed: true }, warnings: [] },
  })
  expect(await host.vblk(...attach)).toMatchObject({ exitCode: 0, envelope: { result: { changed: false } } })
  expect(await host.vblk('list', 'libvirt:web?uri=qemu:///system')).toMatchObject({
    envelope: { result: { disks: [{ id: 'd1', file: image }] } },
  })
  expect(await host.vblk('show', 'libvirt:web', 'd1')).toMatchObject({ exitCode: 0 })
  expect(await host.vblk('stats', 'libvirt:web')).toMatchObject({
    exitCode: 0,
    envelope: { result: { disks: [{ id: 'd1' }] } },
  })
  expect(await host.check('virsh', 'qemu-monitor-command', 'web', '--hmp', 'info block')).toContain('vblk-d1')
  expect(await host.vblk('detach', 'libvirt:web', 'd1', '--timeout', '20')).toMatchObject({
    exitCode: 0,
    envelope: { result: { removed: { device: true, node: true } } },
  })
  expect(await host.vblk<Listed>('list', 'libvirt:web')).toMatchObject({ envelope: { result: { disks: [] } } })
})

test("what libvirt's QEMU may not open, vblk opens for it and passes on", async () => {
  const secret = await makeImage(join(dir, "it's a secret.raw"))
  await chmod(secret, 0o600)
  const attach = ['attach', 'libvirt:web', secret, '--id', 'd1', '--datapath', 'userspace']
  const refused = await host.vblk(...attach)
  expect(refused).toMatchObject({ exitCode: 5, envelope: { error: { code: 'SOURCE_NOT_READABLE' } } })
  expect(refused.envelope.error?.hint).toContain('--pass-fd')
  expect(await host.vblk(...attach, '--pass-fd')).toMatchObject({ exitCode: 0 })
  expect(await host.vblk<Listed>('list', 'libvirt:web')).toMatchObject({
    envelope: { result: { disks: [{ id: 'd1', file: secret }] } },
  })
  expect(await host.vblk('detach', 'libvirt:web', 'd1', '--timeout', '20')).toMatchObject({ exitCode: 0 })
  const sets = JSON.parse(await host.check('virsh', 'qemu-monitor-command', 'web', '{"execute":"query-fdsets"}'))
  expect(sets.return).toEqual([])
})

test('the kernel datapath is refused in words, and the disk stays with QEMU', async () => {
  const attach = ['attach', 'libvirt:web', image, '--id', 'd1', '--read-only', '--datapath', 'auto']
  expect(await host.vblk(...attach)).toMatchObject({ exitCode: 0 })
  const { exitCode, envelope } = await host.vblk('datapath', 'libvirt:web', 'd1', 'kernel')
  // Whichever of the two this machine lacks.
  expect({ exitCode, message: envelope.error?.message }).toEqual({
    exitCode: 5,
    message: expect.stringMatching(/the kernel can't serve d1: .*(KVM|\/dev\/vhost-blk)/),
  })
  await host.vblk('detach', 'libvirt:web', 'd1', '--timeout', '20')
})

test('its process is known, and locked while another vblk changes the domain', async () => {
  const { envelope } = await host.vblk<{ pid: number }>('vm', 'show', 'libvirt:web')
  const pid = (await host.check('cat', '/run/libvirt/qemu/web.pid')).trim()
  expect(String(envelope.result?.pid)).toBe(pid)
  const locked = await host.run('flock', `/proc/${pid}/fd`, 'vblk', 'detach', 'libvirt:web', 'none', '--json')
  expect(locked.exitCode).toBe(9)
  expect(JSON.parse(locked.stdout)).toMatchObject({ error: { code: 'VM_LOCKED' } })
})

test("QEMU's refusals keep their class and words", async () => {
  const { exitCode, envelope } = await host.vblk('detach', 'libvirt:web', 'pci.1')
  expect({ exitCode, code: envelope.error?.code }).toEqual({ exitCode: 5, code: 'NOT_A_DISK' })
})

test('domains that are not there, shut off, or of a libvirt that does not run', async () => {
  expect(await host.vblk('list', "libvirt:o'ther")).toMatchObject({
    exitCode: 3,
    envelope: {
      error: {
        code: 'VM_NOT_FOUND',
        message: "libvirt domain o'ther: failed to get domain 'o'ther'",
        hint: 'see the domains with: virsh list --all',
      },
    },
  })
  expect(await host.vblk('list', 'libvirt:off')).toMatchObject({
    exitCode: 3,
    envelope: {
      error: {
        code: 'VM_NOT_FOUND',
        message: 'libvirt domain off: Requested operation is not valid: domain is not running',
        hint: 'start it with: virsh start off',
      },
    },
  })
  expect(await host.vblk('list', 'libvirt:web?uri=qemu+unix:///system?socket=/run/none')).toMatchObject({
    exitCode: 4,
    envelope: {
      error: {
        code: 'LIBVIRT_FAILED',
        message: "libvirt: Failed to connect socket to '/run/none': No such file or directory",
        hint: expect.stringContaining('systemctl'),
      },
    },
  })
})

test('a libvirt that may be of another host opens no files of this one', async () => {
  const uri = 'qemu+unix:///system?socket=/run/libvirt/libvirt-sock'
  expect(await host.vblk('list', `libvirt:web?uri=${uri}`)).toMatchObject({ exitCode: 0 })
  expect(await host.vblk('attach', `libvirt:web?uri=${uri}`, image, '--id', 'd1')).toMatchObject({
    exitCode: 5,
    envelope: { error: { code: 'VM_IS_REMOTE' } },
  })
})

test("a domain's events are passed on, and end with it", async () => {
  await host.startDomain('short')
  const listening = host.spawnVblk('events', 'libvirt:short', '--json', '--verbose')
  const said = text(listening.stdout as NodeJS.ReadableStream)
  const end = once(listening, 'close')
  // It has greeted, and follows the domain.
  await once(listening.stderr as NodeJS.ReadableStream, 'data')
  await awaitListeners('short', 2)
  await host.check('virsh', 'resume', 'short')
  await host.check('sh', '-c', 'kill -9 "$(cat /run/libvirt/qemu/short.pid)"')
  expect(await end).toEqual([3, null])
  const lines = (await said).trim().split('\n')
  expect(JSON.parse(lines[0] ?? '')).toMatchObject({ ok: true, result: { event: 'RESUME' } })
  expect(JSON.parse(lines.at(-1) ?? '')).toMatchObject({ ok: false, error: { code: 'VM_GONE' } })
})

test('a domain that is destroyed while a detach waits for its guest ends the wait', async () => {
  await host.defineDomain('doomed', { args: ['-global', 'ICH9-LPC.acpi-pci-hotplug-with-bridge-support=on'] })
  await host.check('virsh', 'start', '--paused', 'doomed')
  await host.vblk('attach', 'libvirt:doomed', image, '--id', 'd1', '--read-only', '--datapath', 'userspace')
  const waiting = host.spawnVblk('detach', 'libvirt:doomed', 'd1', '--timeout', '80', '--json')
  const said = text(waiting.stdout as NodeJS.ReadableStream)
  const [first] = await once(waiting.stderr as NodeJS.ReadableStream, 'data')
  expect(String(first)).toContain('waiting for the guest to give up d1')
  await host.check('virsh', 'destroy', 'doomed')
  expect(JSON.parse(await said)).toMatchObject({
    error: { message: expect.stringContaining('has stopped (Destroyed)') },
  })
})

test('Ctrl-C during an attach takes it back through libvirt', async () => {
  const attach = ['attach', 'libvirt:web', image, '--id', 'd1', '--read-only', '--datapath', 'userspace', '--json']
  const child = host.spawnVblk(...attach)
  const said = text(child.stdout as NodeJS.ReadableStream)
  const [first] = await once(child.stderr as NodeJS.ReadableStream, 'data')
  expect(String(first)).toContain('opening')
  // As a terminal does: everybody in the process group hears it.
  process.kill(-(child.pid as number), 'SIGINT')
  expect(JSON.parse(await said)).toMatchObject({ ok: false, error: { exitCode: 130 } })
  const info = await host.check('virsh', 'qemu-monitor-command', 'web', '--hmp', 'info block')
  expect(info.trim()).toBe('')
})

test("libvirt's hook makes a saved domain of another host fit this one", async () => {
  const args = [
    ...['-blockdev', `driver=file,node-name=n1,read-only=on,filename=${image}`],
    // libvirt's own devices are JSON, and QEMU makes those last: what goes into a port of libvirt's must be JSON too.
    ...['-device', JSON.stringify({ driver: 'vhost-blk-pci', id: 'd1', drive: 'n1', bus: 'pci.3', vhost: 'auto' })],
  ]
  await host.startDomain('moved', { args })
  const saved = join(dir, 'moved.save')
  await host.check('virsh', 'save', 'moved', saved)
  const elsewhere = join(dir, 'elsewhere.xml')
  const xml = await domainXml('moved', { args, object: '/of/another/host/vhost-blk.so' })
  const uuid = /<uuid>.*<\/uuid>/.exec(await host.check('virsh', 'dumpxml', 'moved'))?.[0]
  await writeFile(elsewhere, xml.replace('<memory', `${uuid}<memory`))
  await host.check('virsh', 'save-image-define', saved, elsewhere)
  expect(await host.check('virsh', 'save-image-dumpxml', saved)).toContain('/of/another/host/vhost-blk.so')
  await host.check('virsh', 'restore', '--paused', saved)
  expect(await host.vblk('list', 'libvirt:moved')).toMatchObject({
    exitCode: 0,
    envelope: { result: { disks: [{ id: 'd1', file: image }] } },
  })
})

test('without virsh the package is named', async () => {
  const path = process.env.PATH
  process.env.PATH = join(dir, 'nothing')
  const { exitCode, envelope } = await vblk(['list', 'libvirt:web']).finally(() => {
    process.env.PATH = path
  })
  expect({ exitCode, code: envelope.error?.code }).toEqual({ exitCode: 4, code: 'NO_TOOL' })
})

/** Waits until so many virsh follow a domain. */
async function awaitListeners(domain: string, count: number): Promise<void> {
  for (const deadline = Date.now() + 30_000; Date.now() < deadline; ) {
    const { stdout } = await host.run('pgrep', '-fc', `virsh .*--domain ${domain} --loop`)
    if (Number(stdout) >= count) return
  }
  throw new Error(`nobody follows ${domain}`)
}
