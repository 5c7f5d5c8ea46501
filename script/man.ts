// SPDX-License-Identifier: GPL-2.0-or-later
// Writes the man page, dist/vblk.1, from the commands as `oclif manifest` has listed them.
//
//   node --import tsx script/man.ts
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exitCodeMeanings } from '../src/ui/exit-code-meanings.ts'

interface Flag {
  name: string
  char?: string
  description?: string
  helpGroup?: string
  helpValue?: string | string[]
  type: 'option' | 'boolean'
  default?: unknown
  required?: boolean
  multiple?: boolean
  options?: string[]
}

interface Command {
  id: string
  summary?: string
  description?: string
  args: Record<string, { name: string; description?: string; required?: boolean; options?: string[] }>
  flags: Record<string, Flag>
  examples?: (string | { description: string; command: string })[]
}

const top = join(import.meta.dirname, '..')
const { version, description } = JSON.parse(readFileSync(join(top, 'package.json'), 'utf8'))
const manifest = JSON.parse(readFileSync(join(top, 'oclif.manifest.json'), 'utf8'))
const commands = (Object.values(manifest.commands) as Command[]).sort((a, b) => a.id.localeCompare(b.id))

/** Text of others as roff: nothing in it is a request, and a hyphen can be copied. */
function roff(text: string): string {
  const escaped = text.replaceAll('\\', '\\e').replaceAll('-', '\\-')
  return escaped
    .replace(/^(?=[.'])/gm, '\\&')
    .replace(/[^\p{ASCII}]/gu, (char) => `\\[u${char.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0')}]`)
}

const bold = (text: string) => `\\fB${roff(text)}\\fR`
const italic = (text: string) => `\\fI${roff(text)}\\fR`
const nameOf = ({ id }: Command) => id.replaceAll(':', ' ')

/** Lines as they stand if any is indented, paragraphs otherwise. */
function prose(text: string): string[] {
  return text.split(/\n{2,}/).flatMap((part) => {
    const literal = /^\s/m.test(part)
    return ['.PP', ...(literal ? ['.nf', roff(part), '.fi'] : [roff(part)])]
  })
}

function flagForm(flag: Flag): string {
  const long = bold(`--${flag.name}`) + (flag.type === 'option' ? ` ${italic(placeholder(flag))}` : '')
  return flag.char === undefined ? long : `${bold(`-${flag.char}`)}, ${long}`
}

function placeholder({ name, helpValue, options }: Flag): string {
  if (options) return options.join('|')
  return typeof helpValue === 'string' ? helpValue : name.replace(/^.*-/, '').toUpperCase()
}

function flagItem(flag: Flag): string[] {
  const preset = flag.type === 'option' && flag.default !== undefined ? ` Unless given: ${flag.default}.` : ''
  const notes = `${flag.required ? ' Required.' : ''}${flag.multiple ? ' May be repeated.' : ''}${preset}`
  return ['.TP', flagForm(flag), roff(sentence(flag.description ?? '') + notes)]
}

const sentence = (text: string) => {
  const begun = text.charAt(0).toUpperCase() + text.slice(1)
  return /[.!?]$/.test(begun) ? begun : `${begun}.`
}

function synopsis(command: Command): string {
  const args = Object.values(command.args).map((arg) => {
    const shown = italic(arg.options?.join('|') ?? arg.name.toUpperCase())
    return arg.required ? shown : `[${shown}]`
  })
  const required = ownFlags(command).filter((flag) => flag.required)
  return [bold(`vblk ${nameOf(command)}`), ...args, ...required.map(flagForm), `[${italic('option')}...]`].join(' ')
}

const isGlobal = (flag: Flag) => flag.helpGroup === 'GLOBAL'
const ownFlags = ({ flags }: Command) => Object.values(flags).filter((flag) => !isGlobal(flag))

function section(command: Command): string[] {
  const about = [command.summary, command.description].filter((text) => text !== undefined)
  const fill = (text: string) =>
    text.replaceAll('<%= config.bin %>', 'vblk').replaceAll('<%= command.id %>', nameOf(command))
  const args = Object.values(command.args).flatMap((arg) => [
    '.TP',
    italic(arg.options?.join('|') ?? arg.name.toUpperCase()),
    roff(sentence(arg.description ?? '')),
  ])
  const examples = (command.examples ?? []).flatMap((example) =>
    typeof example === 'string'
      ? [`${roff(fill(example))}`]
      : [`# ${roff(example.description)}`, roff(fill(example.command))],
  )
  const [summary = '', ...rest] = about.flatMap((text, index) => (index === 0 ? text.split('\n') : [text]))
  return [
    `.SS ${roff(nameOf(command))}`,
    synopsis(command),
    ...prose(sentence(summary)),
    ...rest.flatMap(prose),
    ...args,
    ...ownFlags(command).flatMap(flagItem),
    ...(examples.length > 0 ? ['.PP', 'Examples:', '.PP', '.nf', '.RS 4', ...examples, '.RE', '.fi'] : []),
  ]
}

const globals = Object.values(commands[0]?.flags ?? {}).filter(isGlobal)
const page = [
  `.TH VBLK 1 "" "vblk ${version}" "User Commands"`,
  '.ad l',
  '.SH NAME',
  `vblk \\- ${roff(description)}`,
  '.SH SYNOPSIS',
  `${bold('vblk')} ${italic('command')} [${italic('argument')}...] [${italic('option')}...]`,
  '.br',
  `${bold('vblk')} [${italic('command')}] ${bold('--help')}`,
  '.br',
  `${bold('vblk --version')}`,
  '.SH DESCRIPTION',
  roff("A guest's virtio-blk requests normally travel from KVM through QEMU to the host's block layer."),
  roff("With vhost-blk the host kernel takes them straight from the guest's virtqueues."),
  roff('vblk gives such disks to running guests, takes them away, and moves guests between two QEMUs.'),
  '.SH OPTIONS OF EVERY COMMAND',
  ...globals.flatMap(flagItem),
  '.SH COMMANDS',
  ...commands.flatMap(section),
  '.SH EXIT STATUS',
  ...exitCodeMeanings.flatMap(([code, meaning]) => ['.TP', bold(String(code)), roff(sentence(meaning))]),
  '.SH ENVIRONMENT',
  ...[
    ['VBLK_CONFIG_DIR', 'where registered names of VMs are kept'],
    ['VBLK_STATE_DIR', 'where the journals of migrations are kept'],
    ['VBLK_MODULE_DIR', 'where the kernel module is built and looked for'],
    ['VBLK_DEVICE_DIR', 'where devices for QEMU are built and looked for'],
    ['NO_COLOR', 'if set, nothing is coloured'],
  ].flatMap(([name = '', meaning = '']) => ['.TP', bold(name), roff(sentence(meaning))]),
  '.SH SEE ALSO',
  `${bold('qemu-system-x86_64')}(1), ${bold('virsh')}(1), ${bold('modprobe')}(8)`,
]
writeFileSync(join(top, 'dist/vblk.1'), `${page.join('\n')}\n`)
