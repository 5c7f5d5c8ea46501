// SPDX-License-Identifier: GPL-2.0-or-later

import { expect, test } from '@jest/globals'
import { parseAddress } from '../../../src/vm/address.ts'

test.each([
  ['/run/vm1.qmp', { kind: 'unix', path: '/run/vm1.qmp' }],
  ['./a b\n.qmp', { kind: 'unix', path: './a b\n.qmp' }],
  ['unix:vm.qmp', { kind: 'unix', path: 'vm.qmp' }],
  ['tcp:127.0.0.1:4444', { kind: 'tcp', host: '127.0.0.1', port: 4444 }],
  ['tcp://host-1.example:1', { kind: 'tcp', host: 'host-1.example', port: 1 }],
  ['tcp:[fe80::1]:65535', { kind: 'tcp', host: 'fe80::1', port: 65535 }],
  ['tls:h:1?ca=/a b/ca.pem', { kind: 'tls', host: 'h', port: 1, ca: '/a b/ca.pem' }],
  ['tls:h:1?key=k&cert=c', { kind: 'tls', host: 'h', port: 1, cert: 'c', key: 'k' }],
  ['ssh://host/run/a.qmp', { kind: 'ssh', destination: 'host', path: '/run/a.qmp' }],
  [
    'ssh://me@host.example:2222/run/ü b.qmp',
    { kind: 'ssh', destination: 'me@host.example', port: 2222, path: '/run/ü b.qmp' },
  ],
  ['libvirt:web 1', { kind: 'libvirt', domain: 'web 1' }],
  ['libvirt:web?uri=qemu:///session', { kind: 'libvirt', domain: 'web', uri: 'qemu:///session' }],
  ['web1', undefined],
  ['vm.qmp', undefined],
])('%j', (text, address) => {
  expect(parseAddress(text)).toEqual(address)
})

test.each([
  'unix:',
  'tcp:host',
  'tcp:host:0',
  'tcp:host:65536',
  'tcp:ho st:1',
  'tcp:-host:x',
  'tls:host:1?ca=',
  'tls:host:1?password=x',
  'tls:host:1?ca=a&ca=b',
  'ssh:host/path',
  'ssh://host',
  'ssh://-oProxyCommand=x/path',
  'ssh://-l@host/path',
  'ssh://host:70000/path',
  'ssh://ho;st/path',
  'ssh://host/a\nb',
  'libvirt:',
  'libvirt:a\nb',
  'libvirt:web?url=x',
])('%j is refused as usage', (text) => {
  expect(() => parseAddress(text)).toThrow(expect.objectContaining({ code: 'BAD_ADDRESS', exitCode: 2 }))
})
