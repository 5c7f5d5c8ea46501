// SPDX-License-Identifier: GPL-2.0-or-later
// A libvirt domain's arguments for QEMU (https://libvirt.org/drvqemu.html, "Pass-through of arbitrary qemu commands"), made to fit
// the host that starts it.

import { DOMParser, type Element, XMLSerializer } from '@xmldom/xmldom'
import { ExitCode, VblkError } from '../errors.ts'
import { deviceArguments, isDeviceObject } from './device-object.ts'
import { formatDevice, readDevice, splitOption } from './qemu-option.ts'

const nameSpace = 'http://libvirt.org/schemas/domain/qemu/1.0'
const ours = 'vhost-blk-pci'
const stock = 'virtio-blk-pci'

/** The device's properties that virtio-blk-pci hasn't (native/qemu/device.c). */
const ownProperties = new Set(['vhost', 'vhostdev', 'vhostfds', 'vhost-active', 'switch-on-migrate', 'x-dirty-log'])

/** What a domain wants of this host. */
export interface DomainXml {
  /** The emulator that it names. */
  emulator: string | undefined
  /** Whether it loads the vhost-blk device or has disks of it. */
  wantsDevice: boolean
  /**
   * The same domain with the device's object of this host; without one (undefined) its disks become virtio-blk-pci. `disks` are
   * these, by id.
   */
  adapt(object: string | undefined): { xml: string; disks: string[] }
}

/** Reads a domain's XML. Throws VblkError (exit code 2) for what is none. */
export function parseDomainXml(xml: string): DomainXml {
  const domain = parse(xml)
  const args = passedArguments(domain)
  const emulator = [...children(domain, 'devices')]
    .flatMap((devices) => [...children(devices, 'emulator')])[0]
    ?.textContent?.trim()
  return {
    emulator: emulator || undefined,
    wantsDevice: args.some((arg) => isOurs(arg)),
    adapt: (object) => {
      const disks = object === undefined ? dropDevice(args) : exchangeObject(args, object)
      return { xml: new XMLSerializer().serializeToString(domain.ownerDocument ?? domain), disks }
    },
  }
}

function parse(xml: string): Element {
  const fault = (why: string) =>
    new VblkError('BAD_DOMAIN_XML', ExitCode.Usage, `this is no domain's XML: ${why}`, {
      hint: 'give what "virsh dumpxml DOMAIN" prints, or libvirt gives to a hook',
    })
  let wrong: string | undefined
  let root: Element | null = null
  try {
    const onError = (level: string, message: string) => {
      if (level !== 'warning') wrong ??= message
    }
    root = new DOMParser({ onError }).parseFromString(xml, 'text/xml').documentElement
  } catch (error) {
    wrong ??= (error as Error).message
  }
  if (wrong !== undefined) throw fault(wrong)
  if (root?.localName !== 'domain') throw fault(`it is a ${root?.tagName ?? 'document without content'}`)
  return root
}

function children(parent: Element, name: string, space: string | null = null): Element[] {
  return Array.from(parent.childNodes).filter(
    (node): node is Element =>
      node.nodeType === node.ELEMENT_NODE &&
      (node as Element).localName === name &&
      (node as Element).namespaceURI === space,
  )
}

/** An option with its value: `-device vhost-blk-pci,…` */
interface PassedArgument {
  option: Element
  value: Element
}

/** The options that take a value and may be ours. */
function passedArguments(domain: Element): PassedArgument[] {
  const words = children(domain, 'commandline', nameSpace).flatMap((line) => children(line, 'arg', nameSpace))
  return words.flatMap((option, index) => {
    const value = words[index + 1]
    return value !== undefined && ['-plugin', '-device'].includes(text(option)) ? [{ option, value }] : []
  })
}

const text = (arg: Element): string => arg.getAttribute('value') ?? ''

const isPlugin = ({ option, value }: PassedArgument): boolean =>
  text(option) === '-plugin' && isDeviceObject((splitOption(text(value))[0] ?? '').replace(/^file=/, ''))

const isDisk = ({ option, value }: PassedArgument): boolean =>
  text(option) === '-device' && readDevice(text(value)).driver === ours

const isOurs = (arg: PassedArgument): boolean => isPlugin(arg) || isDisk(arg)

/** Loads this host's object in place of the one that the domain names. */
function exchangeObject(args: PassedArgument[], object: string): string[] {
  const [first, ...others] = args.filter(isPlugin)
  for (const other of others) remove(other)
  const [option = '', value = ''] = deviceArguments(object)
  if (first !== undefined) {
    first.value.setAttribute('value', value)
    return []
  }
  const disk = args.find(isDisk)
  for (const word of [option, value]) {
    const arg = disk?.option.cloneNode(false) as Element
    arg.setAttribute('value', word)
    disk?.option.parentNode?.insertBefore(arg, disk.option)
  }
  return []
}

/**
 * Without the device a disk is QEMU's own. It can't take the guest's write cache from the stream, and a guest that believes in
 * writethrough must not lose it: off is right for either guest.
 */
function dropDevice(args: PassedArgument[]): string[] {
  for (const plugin of args.filter(isPlugin)) remove(plugin)
  return args.filter(isDisk).map(({ value }) => {
    const { id, properties } = readDevice(text(value))
    const kept = properties.filter(([name]) => !ownProperties.has(name) && name !== 'write-cache')
    value.setAttribute('value', formatDevice(stock, [...kept, ['write-cache', 'off']], text(value)))
    return id ?? 'a disk without id'
  })
}

function remove({ option, value }: PassedArgument): void {
  for (const element of [option, value]) {
    const before = element.previousSibling
    if (before?.nodeType === before?.TEXT_NODE && before?.textContent?.trim() === '')
      before.parentNode?.removeChild(before)
    element.parentNode?.removeChild(element)
  }
}
