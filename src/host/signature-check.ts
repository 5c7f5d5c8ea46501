// SPDX-License-Identifier: GPL-2.0-or-later
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { VblkError } from '../errors.ts'
import { type Check, type fail, ok } from './check.ts'
import type { ModuleFile } from './module-file.ts'
import { readSigner } from './module-sign.ts'

const name = 'module-signature'

/** EFI_GLOBAL_VARIABLE of the UEFI specification, 3.3. */
const secureBootVariable = 'firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c'

/**
 * Whether this kernel takes only signed modules, and ours is one.
 *
 * @param isLoaded - a module that is there has been taken
 * @param file - the file that would be loaded
 * @param lacking - how bad an unsigned one is
 * @param sys - where sysfs is
 */
export async function checkSignature(
  isLoaded: boolean,
  file: ModuleFile | undefined,
  lacking: typeof fail,
  sys = '/sys',
): Promise<Check> {
  const demands = await whoDemands(sys)
  const secureBoot = (await isSecureBoot(sys)) ? 'Secure Boot is on; ' : ''
  if (demands === undefined) return ok(name, `${secureBoot}the kernel takes unsigned modules`)
  if (file === undefined) {
    return isLoaded
      ? ok(name, `${secureBoot}${demands}; the loaded module was taken`)
      : lacking(name, `${demands}, and there is no module to sign`, 'vblk module build')
  }
  let signer: string
  try {
    signer = await readSigner(file.path, {})
  } catch (error) {
    if (!(error instanceof VblkError)) throw error
    return lacking(
      name,
      `${demands}, and who has signed ${file.path} can't be told: ${error.message}`,
      error.hint ?? '',
    )
  }
  if (signer !== '') return ok(name, `${secureBoot}${demands}; ${file.path} is signed by ${signer}`)
  return lacking(name, `${secureBoot}${demands}, and ${file.path} is not signed`, 'vblk module sign')
}

/** What makes the kernel refuse unsigned modules: its own setting, or lockdown(7), which Secure Boot turns on. */
async function whoDemands(sys: string): Promise<string | undefined> {
  const enforce = await readText(join(sys, 'module/module/parameters/sig_enforce'))
  if (enforce === 'Y') return 'the kernel takes only signed modules (module.sig_enforce)'
  // Like "none [integrity] confidentiality".
  const lockdown = /\[(\w+)\]/.exec(await readText(join(sys, 'kernel/security/lockdown')))?.[1]
  if (lockdown === undefined || lockdown === 'none') return undefined
  return `the kernel takes only signed modules (lockdown: ${lockdown})`
}

/** The variable's value comes behind four bytes of attributes (Documentation/filesystems/efivarfs.rst). */
async function isSecureBoot(sys: string): Promise<boolean> {
  const bytes = await readFile(join(sys, secureBootVariable)).catch(() => undefined)
  return bytes?.[4] === 1
}

async function readText(path: string): Promise<string> {
  return (await readFile(path, 'utf8').catch(() => '')).trim()
}
