// SPDX-License-Identifier: GPL-2.0-or-later
import { describe, expect, test } from '@jest/globals'
import { parseDomainXml } from '../../../src/host/domain-xml.ts'

/** As libvirt writes a domain that it sends, with what passes through to QEMU. */
const domain = (
  ...args: string[]
) => `<domain type='kvm' id='3' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>web &amp; mail</name>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <target dev='vda' bus='virtio'/>
    </disk>
  </devices>
  <qemu:commandline>
${args.map((arg) => `    <qemu:arg value='${arg}'/>\n`).join('')}    <qemu:env name='A' value='b'/>
  </qemu:commandline>
</domain>
`

/** The arguments that QEMU gets of it. */
const passed = (xml: string) => [...xml.matchAll(/<qemu:arg value="([^"]*)"\/>/g)].map(([, value]) => value)

const plugin = ['-plugin', 'file=/old/vhost-blk.so']
const disk = ['-device', 'vhost-blk-pci,id=d1,drive=n1,vhost=on,serial=a,,b']

test('a domain without vhost-blk wants nothing', () => {
  const other = domain('-plugin', 'file=/usr/lib/libcount.so', '-device', 'virtio-blk-pci,id=vhost-blk-pci')
  expect(parseDomainXml(other)).toMatchObject({ wantsDevice: false, emulator: '/usr/bin/qemu-system-x86_64' })
  expect(parseDomainXml('<domain/>')).toMatchObject({ wantsDevice: false, emulator: undefined })
})

describe('with a device of this host', () => {
  test('its object takes the place of the other, and all else stays', () => {
    const { xml, disks } = parseDomainXml(domain('-S', ...plugin, ...disk)).adapt('/here, there/vhost-blk.so')
    expect(passed(xml)).toEqual(['-S', '-plugin', 'file=/here,, there/vhost-blk.so', ...disk])
    expect(disks).toEqual([])
    expect(xml.replaceAll('"', "'").replace('/here,, there/', '/old/')).toBe(domain('-S', ...plugin, ...disk).trimEnd())
  })

  test('it is loaded once, and also where the domain only has a disk of it', () => {
    const here = ['-plugin', 'file=/here/vhost-blk.so']
    expect(passed(parseDomainXml(domain(...plugin, ...disk, ...plugin)).adapt('/here/vhost-blk.so').xml)).toEqual([
      ...here,
      ...disk,
    ])
    expect(passed(parseDomainXml(domain('-S', ...disk)).adapt('/here/vhost-blk.so').xml)).toEqual([
      '-S',
      ...here,
      ...disk,
    ])
  })
})

describe('without one', () => {
  const adapted = (...args: string[]) => {
    const { xml, disks } = parseDomainXml(domain(...args)).adapt(undefined)
    return { args: passed(xml), disks }
  }

  test('the disk is served by QEMU, its write cache off, and nothing is loaded', () => {
    expect(adapted('-S', ...plugin, ...disk)).toEqual({
      args: ['-S', '-device', 'virtio-blk-pci,id=d1,drive=n1,serial=a,,b,write-cache=off'],
      disks: ['d1'],
    })
  })

  test('in any of the ways to write it', () => {
    const json = '{"driver":"vhost-blk-pci","id":"d2","drive":"n2","vhostfds":"7","write-cache":"on"}'
    const long = 'driver=vhost-blk-pci,vhostdev=/dev/fdset/1,drive=n3'
    const { xml, disks } = parseDomainXml(domain('-device', json, '-device', long)).adapt(undefined)
    const values = passed(xml).map((value) => value?.replaceAll('&quot;', '"'))
    expect(values[1]).toBe('{"driver":"virtio-blk-pci","id":"d2","drive":"n2","write-cache":"off"}')
    expect(values[3]).toBe('virtio-blk-pci,drive=n3,write-cache=off')
    expect(disks).toEqual(['d2', 'a disk without id'])
  })
})

test.each([
  ['', 'missing root element'],
  ['{}', 'missing root element'],
  ['<domain>', 'unclosed'],
  ['<network/>', 'it is a network'],
  ['<!DOCTYPE d [<!ENTITY e "x">]><domain>&e;</domain>', 'entity'],
])('%j is no domain', (xml, why) => {
  expect(() => parseDomainXml(xml)).toThrow(expect.objectContaining({ code: 'BAD_DOMAIN_XML', exitCode: 2 }))
  expect(() => parseDomainXml(xml)).toThrow(new RegExp(why))
})
