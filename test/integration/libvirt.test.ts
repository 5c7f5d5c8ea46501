// SPDX-License-Identifier: GPL-2.0-or-later
// Domains of libvirt. The lab has no libvirtd: virsh's part is played by a script that answers as virsh 11 does, from a real
// QEMU's monitor.

import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import { makeFolder, makeImage, Qemu, removeFolder, vblk } from './qemu.ts'

jest.setTimeout(90_000)

let dir: string
let qemu: Qemu
const path = process.env.PATH ?? ''

// One connection per command, as libvirt's monitor is never ours; libvirt numbers the commands itself.
const virsh = (socket: string, events: string) => `#!/usr/bin/python3
import json, socket, sys
args = [a for a in sys.argv[1:] if a != '--quiet']
domain = args[args.index('--domain') + 1]
if domain != 'web':
    sys.exit("error: failed to get domain '%s'" % domain)
monitor = socket.socket(socket.AF_UNIX)
monitor.connect(${JSON.stringify(events)} if args[0] == 'qemu-monitor-event' else ${JSON.stringify(socket)})
lines = monitor.makefile('rw')
lines.readline()
def ask(command):
    lines.write(json.dumps(command) + '\\n'); lines.flush()
    while True:
        reply = json.loads(lines.readline())
        if 'event' not in reply: return reply
ask({'execute': 'qmp_capabilities'})
if args[0] == 'qemu-monitor-event':
    for line in lines:
        e = json.loads(line)
        if 'event' not in e: continue
        t = e['timestamp']
        details = json.dumps(e['data']) if 'data' in e else '<null>'
        print("event %s at %d.%06d for domain '%s': %s" % (e['event'], t['seconds'], t['microseconds'], domain, details), flush=True)
else:
    print(json.dumps({**ask(json.loads(args[args.index('--cmd') + 1])), 'id': 'libvirt-7'}))
`

beforeAll(async () => {
  dir = await makeFolder()
  const events = join(dir, 'events.sock')
  qemu = await Qemu.start(dir, 'vm', { hotplug: 'native', args: ['-S', '-qmp', `unix:${events},server=on,wait=off`] })
  await writeFile(join(dir, 'virsh'), virsh(qemu.socket, events))
  await chmod(join(dir, 'virsh'), 0o755)
  process.env.PATH = `${dir}:${path}`
})

afterAll(async () => {
  process.env.PATH = path
  await qemu?.stop()
  await removeFolder(dir)
})

test('a disk comes and goes through libvirt', async () => {
  const image = await makeImage(join(dir, 'disk.raw'))
  const attach = ['attach', 'libvirt:web', image, '--id', 'd1', '--datapath', 'userspace']
  expect(await vblk(attach)).toMatchObject({ exitCode: 0, envelope: { result: { changed: true } } })
  expect(await vblk(['list', 'libvirt:web'])).toMatchObject({
    envelope: { result: { disks: [{ id: 'd1', file: image }] } },
  })
  expect(await vblk(['detach', 'libvirt:web', 'd1', '--timeout', '20'])).toMatchObject({
    exitCode: 0,
    envelope: { result: { removed: { device: true, node: true } } },
  })
})

test("QEMU's refusals keep their class and words", async () => {
  const { exitCode, envelope } = await vblk(['detach', 'libvirt:web?uri=qemu:///system', 'rp1'])
  expect({ exitCode, code: envelope.error?.code }).toEqual({ exitCode: 5, code: 'NOT_A_DISK' })
})

test('a domain that is not there is not found; without virsh the package is named', async () => {
  expect(await vblk(['list', 'libvirt:other'])).toMatchObject({
    exitCode: 3,
    envelope: { error: { code: 'VM_NOT_FOUND', hint: 'see the domains with: virsh list --all' } },
  })
  process.env.PATH = join(dir, 'nothing')
  const { exitCode, envelope } = await vblk(['list', 'libvirt:web'])
  process.env.PATH = `${dir}:${path}`
  expect({ exitCode, code: envelope.error?.code }).toEqual({ exitCode: 4, code: 'NO_TOOL' })
})
