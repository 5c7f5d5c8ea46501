// SPDX-License-Identifier: GPL-2.0-or-later

import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import path from 'node:path'
import naturalCompare from 'natural-compare'
import { ExitCode, VblkError } from '../errors.ts'
import { parseAddress } from './address.ts'

/** A name that stands for the address of a VM's monitor. */
export interface RegisteredVm {
  name: string
  address: string
  /** The file that says so. */
  file: string
}

const maxFileBytes = 16 * 1024

/** Where names are kept: in $VBLK_CONFIG_DIR, /etc/vblk for root, ~/.config/vblk for everybody else. */
export function configFolder(): string {
  const { VBLK_CONFIG_DIR, XDG_CONFIG_HOME } = process.env
  if (VBLK_CONFIG_DIR) return path.resolve(VBLK_CONFIG_DIR)
  if (process.getuid?.() === 0) return '/etc/vblk'
  return path.join(XDG_CONFIG_HOME || path.join(homedir(), '.config'), 'vblk')
}

/** Throws VblkError (usage) for what can't be a name: it is a file's name too, and must not look like a path or an address. */
export function checkName(name: string): void {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name)) return
  throw new VblkError(
    'BAD_NAME',
    ExitCode.Usage,
    `'${name}' can't be a VM's name: letters, digits, '-', '.' and '_', 64 at most, a letter or a digit first`,
  )
}

/** All registered VMs, by name. Throws VblkError (exit code 5) for a file that is damaged or that others may write. */
export async function listRegistered(): Promise<RegisteredVm[]> {
  let files: string[]
  try {
    files = await readdir(path.join(configFolder(), 'vms'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw unreadable(path.join(configFolder(), 'vms'), error)
  }
  const names = files.filter((file) => file.endsWith('.json')).map((file) => file.slice(0, -5))
  const found = await Promise.all(names.map((name) => findRegistered(name)))
  return found.filter((vm) => vm !== undefined).sort((a, b) => naturalCompare(a.name, b.name))
}

/** The VM of that name; undefined when there is none. Throws VblkError (exit code 5) as listRegistered does. */
export async function findRegistered(name: string): Promise<RegisteredVm | undefined> {
  const file = fileOf(name)
  let text: string
  try {
    const { uid, mode, size } = await stat(file)
    // Whoever can write it decides which VM our commands change.
    if ((uid !== 0 && uid !== process.getuid?.()) || (mode & 0o022) !== 0) {
      throw damaged(file, 'it belongs to another user, or others may write it')
    }
    if (size > maxFileBytes) throw damaged(file, `it has more than ${maxFileBytes} bytes`)
    text = await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error instanceof VblkError ? error : unreadable(file, error)
  }
  return { name, address: parseEntry(file, text), file }
}

/**
 * Registers a VM under a name, in a private file. Throws VblkError: exit code 2 for a name or address that is none, 5 when the
 * name stands for another VM and isn't to be replaced.
 */
export async function register(
  name: string,
  address: string,
  options: { replace: boolean; dryRun: boolean },
): Promise<{ vm: RegisteredVm; changed: boolean }> {
  checkName(name)
  const parsed = parseAddress(address)
  if (parsed === undefined) {
    throw new VblkError(
      'BAD_ADDRESS',
      ExitCode.Usage,
      `'${address}' is no address: a path with a slash, tcp:, tls:, ssh:// or libvirt:`,
    )
  }
  // A path is of the folder in which it was given.
  const absolute = parsed.kind === 'unix' ? path.resolve(parsed.path) : address
  const vm = { name, address: absolute, file: fileOf(name) }
  const existing = await findRegistered(name)
  if (existing?.address === absolute) return { vm, changed: false }
  if (existing !== undefined && !options.replace) {
    throw new VblkError('NAME_TAKEN', ExitCode.Refused, `${name} is registered already, for ${existing.address}`, {
      hint: 'give --replace, or remove it first',
    })
  }
  if (!options.dryRun) await write(vm)
  return { vm, changed: !options.dryRun }
}

/** Forgets a name. @returns false when it wasn't registered */
export async function unregister(name: string): Promise<boolean> {
  checkName(name)
  try {
    await rm(fileOf(name))
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw unreadable(fileOf(name), error)
  }
}

async function write({ address, file }: RegisteredVm): Promise<void> {
  const unfinished = `${file}.${process.pid}`
  try {
    await mkdir(path.dirname(file), { recursive: true, mode: 0o700 })
    await writeFile(unfinished, `${JSON.stringify({ address })}\n`, { mode: 0o600, flag: 'wx' })
    await rename(unfinished, file)
  } catch (error) {
    await rm(unfinished, { force: true })
    throw unreadable(file, error)
  }
}

const fileOf = (name: string) => path.join(configFolder(), 'vms', `${name}.json`)

function parseEntry(file: string, text: string): string {
  let entry: unknown
  try {
    entry = JSON.parse(text)
  } catch {
    throw damaged(file, 'it is not JSON')
  }
  const address = typeof entry === 'object' && entry !== null && 'address' in entry ? entry.address : undefined
  if (typeof address !== 'string') throw damaged(file, "it has no text 'address'")
  try {
    if (parseAddress(address) !== undefined) return address
  } catch {
    // Below.
  }
  throw damaged(file, `'${address}' is no address`)
}

function damaged(file: string, why: string): VblkError {
  return new VblkError('BAD_REGISTRATION', ExitCode.Refused, `${file} is not used: ${why}`, {
    hint: 'mend it, or remove it and register the VM again with: vblk vm add',
  })
}

function unreadable(file: string, cause: unknown): VblkError {
  const code = (cause as NodeJS.ErrnoException).code
  if (code === undefined) return new VblkError('BUG', ExitCode.Bug, String(cause), { cause })
  return new VblkError('CONFIG_UNUSABLE', ExitCode.HostLacks, `${file}: ${(cause as Error).message}`, {
    hint: 'run vblk as the user that the folder belongs to',
    cause,
  })
}
