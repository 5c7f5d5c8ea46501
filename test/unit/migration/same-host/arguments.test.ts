// SPDX-License-Identifier: GPL-2.0-or-later
import { describe, expect, test } from '@jest/globals'
import { successorArguments } from '../../../../src/migration/same-host/arguments.ts'

const monitor = ['-qmp', 'unix:/run/vm1.qmp,server=on,wait=off']

const successor = (argv: string[], object?: string) =>
  successorArguments(argv, {
    monitor: { isThis: (path) => path === '/run/vm1.qmp', becomes: '/run/vm1.qmp.new' },
    machine: 'pc-q35-10.0',
    object,
    nameNow: (path) => path.replace(/^\/renamed(.*)\.new$/, '/renamed$1'),
    suffix: '.new',
  })

/** The arguments that come of some, without the monitor's and what is always added. */
function changed(argv: string[], object?: string): string[] {
  const all = successor([...monitor, '-machine', 'q35', ...argv], object).argv
  expect(all.slice(-2)).toEqual(['-incoming', 'defer'])
  return all.slice(object === undefined ? 4 : 6, -2)
}

describe('the arguments of the QEMU that takes a VM over', () => {
  test('are those of the first, with a monitor of its own, the very machine, and an incoming migration', () => {
    const argv = [
      '-name',
      'vm1',
      '-machine',
      'q35,accel=kvm',
      '-smp',
      '2',
      ...monitor,
      '-nodefaults',
      '-S',
      '-daemonize',
    ]
    expect(successor(argv)).toEqual({
      argv: [
        ...['-name', 'vm1', '-machine', 'pc-q35-10.0,accel=kvm', '-smp', '2'],
        ...['-qmp', 'unix:/run/vm1.qmp.new,server=on,wait=off', '-nodefaults', '-incoming', 'defer'],
      ],
      names: [],
    })
  })

  test.each([
    [
      ['-M', 'type=q35,accel=kvm'],
      ['-M', 'pc-q35-10.0,accel=kvm'],
    ],
    [
      ['-machine', 'accel=kvm,type=q35'],
      ['-machine', 'pc-q35-10.0,accel=kvm'],
    ],
  ])('the machine of %j is %j', (given, becomes) => {
    expect(successor([...monitor, ...given]).argv.slice(2, 4)).toEqual(becomes)
  })

  test('a machine that was not named is named', () => {
    expect(successor(monitor).argv).toEqual([
      ...monitor.slice(0, 1),
      'unix:/run/vm1.qmp.new,server=on,wait=off',
      '-machine',
      'pc-q35-10.0',
      '-incoming',
      'defer',
    ])
  })

  test.each([
    ['-incoming', 'tcp:0:4444'],
    ['-loadvm', 'one'],
    ['--incoming', 'defer'],
  ])('%s is not repeated', (...argv) => {
    expect(changed(argv)).toEqual([])
  })

  test.each([
    ['-qmp', 'unix:/run/b.sock,server,nowait', 'unix:/run/b.sock.new,server,nowait', '/run/b.sock'],
    ['-monitor', 'unix:a,,b,server=on', 'unix:a,,b.new,server=on', 'a,b'],
    ['-vnc', 'unix:/run/vnc', 'unix:/run/vnc.new', '/run/vnc'],
    [
      '-chardev',
      'socket,id=c,path=/run/c,server=on,wait=off',
      'socket,id=c,path=/run/c.new,server=on,wait=off',
      '/run/c',
    ],
    ['-pidfile', '/run/vm1.pid', '/run/vm1.pid.new', '/run/vm1.pid'],
    ['-pidfile', '/renamed/vm1.pid.new', '/renamed/vm1.pid.new', '/renamed/vm1.pid'],
    [
      '-chardev',
      '{"backend":"socket","id":"c","path":"/run/c","server":true}',
      '{"backend":"socket","id":"c","path":"/run/c.new","server":true}',
      '/run/c',
    ],
  ])('%s %s gets a name of its own for the time being', (option, value, becomes, name) => {
    const { argv, names } = successor([...monitor, option, value])
    expect(argv.slice(2, 4)).toEqual([option, becomes])
    expect(names).toEqual([{ from: `${name}.new`, to: name }])
  })

  test.each([
    ['-chardev', 'socket,id=c,path=/run/c,reconnect=1'],
    ['-serial', 'unix:/run/c'],
    ['-serial', 'file:console.log'],
    ['-append', 'fd=3 snapshot=on'],
    ['-netdev', 'user,id=n'],
    ['-object', 'memory-backend-file,id=m,size=1G,mem-path=/dev/hugepages,share=off'],
    ['-object', '{"qom-type":"memory-backend-file","id":"m","share":false}'],
    ['-drive', 'file=/snapshots/a.qcow2,snapshot=off'],
    ['-object', 'memory-backend-memfd,id=m,size=1G,share=on'],
  ])('%s %s stays as it is', (...argv) => {
    expect(changed(argv)).toEqual(argv)
  })

  test.each([
    ['virtio-blk-pci,drive=d,id=data', 'vhost-blk-pci,drive=d,id=data'],
    ['driver=virtio-blk-pci,drive=d', 'vhost-blk-pci,drive=d'],
    ['virtio-blk-pci-non-transitional,drive=d', 'vhost-blk-pci-non-transitional,drive=d'],
    ['{"driver":"virtio-blk-pci","drive":"d"}', '{"driver":"vhost-blk-pci","drive":"d"}'],
    ['virtio-net-pci,netdev=n', 'virtio-net-pci,netdev=n'],
  ])('with the device for the new QEMU %s becomes %s', (given, becomes) => {
    expect(changed(['-device', given], '/o,bjects/vhost-blk.so')).toEqual(['-device', becomes])
    expect(successor(monitor, '/o,bjects/vhost-blk.so').argv.slice(0, 2)).toEqual([
      '-plugin',
      'file=/o,,bjects/vhost-blk.so',
    ])
    expect(changed(['-device', given])).toEqual(['-device', given])
  })

  test('the device of the old QEMU is exchanged, other plugins stay', () => {
    const plugins = ['-plugin', 'file=/old/vhost-blk.so,trace=x', '-plugin', 'file=/other.so']
    expect(changed(plugins, '/new/vhost-blk.so')).toEqual(['-plugin', 'file=/other.so'])
  })

  test.each([
    [['-netdev', 'tap,id=n,fd=5'], /-netdev tap,id=n,fd=5: a descriptor was passed to it$/],
    [['-netdev', 'tap,id=n,vhostfds=5:6'], /a descriptor was passed/],
    [['-chardev', '{"backend":"socket","id":"c","fd":"3"}'], /a descriptor was passed/],
    [['-blockdev', 'driver=file,filename=/dev/fdset/1,node-name=f'], /a descriptor was passed/],
    [['-add-fd', 'fd=3,set=1'], /a descriptor was passed/],
    [['-run-with', 'user=qemu'], /-run-with user=qemu: it was started by root and gave up its rights$/],
    [['-runas', 'qemu'], /gave up its rights$/],
    [
      ['-object', 'memory-backend-file,id=m,size=1G,mem-path=/dev/shm/m,share=on'],
      /would write into the memory of the running VM$/,
    ],
    [['-object', 'memory-backend-file,share,id=m,mem-path=/dev/shm/m'], /would write into the memory/],
    [['-object', 'memory-backend-file,id=m,share=yes,mem-path=/dev/shm/m'], /would write into the memory/],
    [['-object', '{"qom-type":"memory-backend-file","id":"m","share":true}'], /would write into the memory/],
    [['-tpmdev', 'emulator,id=t,chardev=c'], /the TPM is in a process that serves one QEMU$/],
    [['-device', 'vhost-user-blk-pci,chardev=c'], /the device is in a process that serves one QEMU$/],
    [['-netdev', 'vhost-user,id=n,chardev=c'], /serves one QEMU$/],
    [['-snapshot'], /-snapshot: what the guest wrote lies in files without a name$/],
    [['-drive', 'file=a.qcow2,snapshot=on'], /lies in a file without a name$/],
    [['disk.img'], /disk\.img: it is no option$/],
    [['-m'], /-m: it has no value$/],
  ])('%j is refused', (argv, message) => {
    const call = () => successor([...monitor, ...argv])
    expect(call).toThrow(message)
    expect(call).toThrow(expect.objectContaining({ code: 'NOT_REPEATABLE', exitCode: 5 }))
  })

  test('arguments that do not make the monitor are refused', () => {
    expect(() => successor(['-qmp', 'tcp:127.0.0.1:1,server=on'])).toThrow(/none of them makes the socket/)
  })
})
