// SPDX-License-Identifier: GPL-2.0-or-later
import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { release } from 'node:os'
import { VblkError } from '../errors.ts'
import { type Check, fail, ok, warn } from './check.ts'
import { type LoadedModule, readLoadedModule } from './loaded-module.ts'
import { missingHeaders } from './module-build.ts'
import { findModuleFile, MODULE_NAME, type ModuleFile } from './module-file.ts'
import { missingPrograms } from './programs.ts'
import { checkSignature } from './signature-check.ts'
import { ABI_VERSION, DEVICE_PATH, readInfo } from './vhost-blk.ts'

const BTF_PATH = '/sys/kernel/btf/vmlinux'

/** Checks of the kernel module: can it be built, is it, may it be loaded, is it, and does it speak our ABI. */
export async function checkModule(): Promise<Check[]> {
  const loaded = await readLoadedModule()
  const { file, check } = await checkModuleFile(loaded)
  // A module that is there needn't be built: then what the build needs is worth a warning only.
  const lacking = loaded || file?.matches ? warn : fail
  return [
    ok('kernel', release()),
    checkHeaders(lacking),
    checkBtf(lacking),
    await checkCompiler(lacking),
    check,
    await checkSignature(loaded !== undefined, file, loaded ? warn : fail),
    checkLoaded(loaded),
    checkAbi(loaded),
    await checkDeviceNode(loaded),
  ]
}

function checkHeaders(lacking: typeof fail): Check {
  const missing = missingHeaders(release())
  return missing ? lacking('kernel-headers', missing.message, missing.hint ?? '') : ok('kernel-headers', 'present')
}

function checkBtf(lacking: typeof fail): Check {
  if (existsSync(BTF_PATH)) return ok('btf', BTF_PATH)
  return lacking('btf', `${BTF_PATH} is missing`, 'boot a kernel with CONFIG_DEBUG_INFO_BTF=y')
}

async function checkCompiler(lacking: typeof fail): Promise<Check> {
  const missing = await missingPrograms(['gcc', 'make'])
  if (missing.length === 0) return ok('compiler', 'gcc and make are installed')
  return lacking('compiler', `${missing.join(' and ')} not installed`, `apt-get install ${missing.join(' ')}`)
}

async function checkModuleFile(loaded: LoadedModule | undefined): Promise<{ file?: ModuleFile; check: Check }> {
  const name = 'module-built'
  const lacking = loaded ? warn : fail
  try {
    const file = await findModuleFile()
    if (!file) return { check: lacking(name, `no ${MODULE_NAME} for this kernel was found`, 'vblk module build') }
    const version = file.version ? ` version ${file.version}` : ''
    if (file.matches) return { file, check: ok(name, `${file.path}${version}`) }
    const message = `${file.path} was built for kernel ${file.kernel || '(none)'}, and this is ${release()}`
    return { file, check: lacking(name, message, 'vblk module build') }
  } catch (error) {
    return { check: lacking(name, (error as Error).message, 'vblk module build') }
  }
}

function checkLoaded(loaded: LoadedModule | undefined): Check {
  if (!loaded) return fail('module-loaded', `${MODULE_NAME} is not loaded`, 'vblk module load')
  return ok('module-loaded', `${MODULE_NAME}${loaded.version ? ` version ${loaded.version}` : ''}`)
}

function checkAbi(loaded: LoadedModule | undefined): Check {
  const name = 'module-abi'
  if (!loaded) return fail(name, 'unknown until the module is loaded', 'vblk module load')
  try {
    const { abiVersion, maxQueues } = readInfo()
    if (abiVersion === ABI_VERSION) return ok(name, `version ${abiVersion}, up to ${maxQueues} queues`)
    const message = `the module speaks ABI version ${abiVersion}, and this vblk ${ABI_VERSION}`
    return fail(name, message, 'vblk module unload && vblk module build && vblk module load')
  } catch (error) {
    if (error instanceof VblkError) return fail(name, error.message, error.hint ?? '')
    return fail(name, `${DEVICE_PATH} does not answer: ${(error as Error).message}`, accessFix(error))
  }
}

async function checkDeviceNode(loaded: LoadedModule | undefined): Promise<Check> {
  const name = 'device-node'
  const node = await stat(DEVICE_PATH).catch(() => undefined)
  if (!node) {
    return fail(
      name,
      `${DEVICE_PATH} is missing`,
      loaded ? 'udevadm trigger --subsystem-match=misc' : 'vblk module load',
    )
  }
  if (!node.isCharacterDevice()) return fail(name, `${DEVICE_PATH} is no device`, `rm ${DEVICE_PATH}`)
  if ((node.mode & 0o007) !== 0) {
    return fail(name, `${DEVICE_PATH} is open to every user of this host`, `chmod o= ${DEVICE_PATH}`)
  }
  const mode = (node.mode & 0o777).toString(8).padStart(4, '0')
  return ok(name, `${DEVICE_PATH} mode ${mode}, user ${node.uid}, group ${node.gid}`)
}

function accessFix(error: unknown): string {
  return (error as NodeJS.ErrnoException).code === 'EACCES'
    ? 'run vblk as root, or as a member of the group of the device'
    : 'vblk module unload && vblk module load'
}
