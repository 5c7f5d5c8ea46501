// SPDX-License-Identifier: GPL-2.0-or-later
// A QEMU's start arguments, made into those of the QEMU that takes its VM on the same host.

import { ExitCode, VblkError } from '../../errors.ts'
import { deviceArguments, isDeviceObject } from '../../host/device-object.ts'
import { splitOption } from '../../host/qemu-option.ts'

/** What the arguments are changed to. */
export interface Wanted {
  /** The monitor's socket as the arguments may name it, and what it becomes. */
  monitor: { isThis: (path: string) => boolean; becomes: string }
  /** The machine type without aliases, which another QEMU version may resolve otherwise. */
  machine: string
  /** The vhost-blk device's object for the new QEMU; undefined: virtio-blk disks stay what they are. */
  object: string | undefined
  /** What a file of the arguments is called now: it may have taken another's name since. */
  nameNow: (path: string) => string
  /** Appended to the name of whatever only one process can have at a time. */
  suffix: string
}

/** Arguments of the new QEMU, without its program. */
export interface Successor {
  argv: string[]
  /** Files that both QEMUs want to make: the new one has made `from`, and when the old one has ended it becomes `to`. */
  names: { from: string; to: string }[]
}

/** Options without a value (QEMU 10.0, qemu-options.hx: those that aren't HAS_ARG). */
const flags = new Set(
  `S s daemonize nodefaults no-user-config nographic no-reboot no-shutdown enable-kvm only-migratable preconfig snapshot
  mem-prealloc usb full-screen win2k-hack no-fd-bootchk xen-attach xen-domid-restrict enable-sync-profile perfmap jitdump
  async-teardown semihosting old-param no-acpi no-hpet`.split(/\s+/),
)

/** What the new QEMU gets otherwise, or not at all. */
const dropped = new Set(['S', 'daemonize', 'incoming', 'loadvm', 'preconfig'])

/** Options that open a character device by its older syntax, or something that looks the same. */
const oldCharacterDevices = new Set(['qmp', 'qmp-pretty', 'monitor', 'serial', 'parallel', 'debugcon', 'gdb', 'vnc'])

const toVhost: Record<string, string> = {
  'virtio-blk': 'vhost-blk-pci',
  'virtio-blk-pci': 'vhost-blk-pci',
  'virtio-blk-pci-transitional': 'vhost-blk-pci-transitional',
  'virtio-blk-pci-non-transitional': 'vhost-blk-pci-non-transitional',
}

const refuse = (option: string, why: string) =>
  new VblkError(
    'NOT_REPEATABLE',
    ExitCode.Refused,
    `the arguments of its QEMU can't be used again: ${option}: ${why}`,
    {
      hint: 'start the destination yourself, or let --start-destination do it',
    },
  )

/**
 * Makes the arguments of a QEMU that can take the VM while the first one has it. Throws VblkError (exit code 5) for arguments that
 * can't be repeated: they hold what only the old process has, or don't name its monitor.
 */
export function successorArguments(argv: readonly string[], wanted: Wanted): Successor {
  const names: Successor['names'] = []
  let hasMonitor = false
  let hasMachine = false
  const make = (name: string): string => {
    const path = wanted.nameNow(name)
    names.push({ from: path + wanted.suffix, to: path })
    return path + wanted.suffix
  }
  const listen = (path: string): string => {
    if (!wanted.monitor.isThis(wanted.nameNow(path))) return make(path)
    hasMonitor = true
    return wanted.monitor.becomes
  }
  const change = (option: string, value: string): string[] => {
    requireOwn(option, value)
    if (option === 'pidfile') return [make(value)]
    if (oldCharacterDevices.has(option)) return [changeOldListener(option, value, listen)]
    if (option === 'chardev') return [changeListener(value, listen)]
    if (option === 'machine' || option === 'M') {
      hasMachine = true
      return [withMachine(value, wanted.machine)]
    }
    if (option === 'plugin' && isDeviceObject((splitOption(value)[0] ?? '').replace(/^file=/, ''))) return []
    if (option === 'device' && wanted.object !== undefined) return [toKernel(value)]
    return [value]
  }
  const result: string[] = []
  for (let index = 0; index < argv.length; index++) {
    const word = argv[index] as string
    const option = /^--?([^-].*)$/s.exec(word)?.[1]
    if (option === undefined) throw refuse(word, 'it is no option')
    if (option === 'snapshot') throw refuse(word, 'what the guest wrote lies in files without a name')
    const value = flags.has(option) ? undefined : argv[++index]
    if (!flags.has(option) && value === undefined) throw refuse(word, 'it has no value')
    if (dropped.has(option)) continue
    if (value === undefined) result.push(word)
    else for (const changed of change(option, value)) result.push(word, changed)
  }
  if (!hasMonitor) throw refuse('its monitor', 'none of them makes the socket that the VM is reached by')
  return {
    argv: [
      ...(wanted.object === undefined ? [] : deviceArguments(wanted.object)),
      ...result,
      ...(hasMachine ? [] : ['-machine', wanted.machine]),
      ...['-incoming', 'defer'],
    ],
    names,
  }
}

/** Texts for the guest and for people, which may hold anything. */
const texts = new Set(['append', 'name', 'smbios', 'fw_cfg'])

/** Matches a switch that is there and not off: alone, or with one of QEMU's words for true. */
const isOn = (name: string) => new RegExp(`(^|[,{"\\s.])${name}\\b(?!"?[=:]\\s*"?(off|no|n|false)\\b)`)

/** What two QEMUs must not have at a time, or what only the old one has. */
const unrepeatable: [option: RegExp, value: RegExp[], why: string][] = [
  [/^add-fd$/, [], 'a descriptor was passed to it'],
  [/./, [/(^|[,:.{"\s])(vhost)?fds?"?[=:]|\/dev\/fdset\//], 'a descriptor was passed to it'],
  [/^run-with$/, [/(^|,)user=/], 'it was started by root and gave up its rights'],
  [/^runas$/, [], 'it was started by root and gave up its rights'],
  [/^drive$|^blockdev$/, [isOn('snapshot')], 'what the guest wrote lies in a file without a name'],
  // A QEMU that starts writes its firmware into its memory.
  [/^object$/, [/memory-backend-file/, isOn('share')], 'the new QEMU would write into the memory of the running VM'],
  [/^tpmdev$/, [/emulator/], 'the TPM is in a process that serves one QEMU'],
  [/./, [/vhost-user/], 'the device is in a process that serves one QEMU'],
]

function requireOwn(option: string, value: string): void {
  if (texts.has(option)) return
  const found = unrepeatable.find(([name, parts]) => name.test(option) && parts.every((part) => part.test(value)))
  if (found !== undefined) throw refuse(`-${option} ${value}`, found[2])
}

const joinWords = (words: string[]) => words.map((word) => word.replaceAll(',', ',,')).join(',')

/** `unix:PATH,server=on…`, and of VNC `unix:PATH…`, which always listens; also `server,nowait`. Else it connects, as often as one likes. */
function changeOldListener(option: string, value: string, listen: (path: string) => string): string {
  const [first = '', ...others] = splitOption(value)
  const path = /^unix:(.+)$/s.exec(first)?.[1]
  if (path === undefined || (option !== 'vnc' && !others.some(isServer))) return value
  return joinWords([`unix:${listen(path)}`, ...others])
}

const isServer = (word: string) => ['server', 'server=on', 'server=yes', 'server=true'].includes(word)

/** `socket,id=ID,path=PATH,server=on…`, or the same as JSON. */
function changeListener(value: string, listen: (path: string) => string): string {
  if (value.startsWith('{')) {
    const device = readJson(value)
    if (
      device.backend !== 'socket' ||
      typeof device.path !== 'string' ||
      ![true, 'on'].includes(device.server as string)
    )
      return value
    return JSON.stringify({ ...device, path: listen(device.path) })
  }
  const words = splitOption(value)
  const isSocket = words[0] === 'socket' || words.includes('backend=socket')
  if (!isSocket || !words.some(isServer)) return value
  return joinWords(words.map((word) => (word.startsWith('path=') ? `path=${listen(word.slice(5))}` : word)))
}

function withMachine(value: string, machine: string): string {
  const others = splitOption(value).filter(
    (word, index) => !word.startsWith('type=') && (index > 0 || word.includes('=')),
  )
  return joinWords([machine, ...others])
}

/** QEMU's own disk becomes one that the kernel can serve: the guest can't tell them apart. */
function toKernel(value: string): string {
  if (value.startsWith('{')) {
    const device = readJson(value)
    const driver = toVhost[String(device.driver)]
    return driver === undefined ? value : JSON.stringify({ ...device, driver })
  }
  const [first = '', ...others] = splitOption(value)
  const driver = toVhost[first.replace(/^driver=/, '')]
  return driver === undefined ? value : joinWords([driver, ...others])
}

function readJson(value: string): Record<string, unknown> {
  try {
    return JSON.parse(value) as Record<string, unknown>
  } catch {
    return {}
  }
}
