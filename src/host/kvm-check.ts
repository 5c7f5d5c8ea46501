// SPDX-License-Identifier: GPL-2.0-or-later
import { constants } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { VblkError } from '../errors.ts'
import { type Check, fail, ok } from './check.ts'
import { closeFd, ioctl, openFd } from './fd.ts'

const KVM_PATH = '/dev/kvm'

// linux/kvm.h; the version has been 12 since 2.6.22, and a program must refuse any other (Documentation/virt/kvm/api.rst, 4.1).
const KVM_GET_API_VERSION = 0xae00
const KVM_CREATE_VM = 0xae01
const KVM_API_VERSION = 12

/** Whether KVM can run guests: the device may be there on a machine whose processor can't. */
export async function checkKvm(): Promise<Check> {
  const name = 'kvm'
  const virtualization = await cpuVirtualization()
  const load = `modprobe ${virtualization === 'vmx' ? 'kvm_intel' : 'kvm_amd'}`
  if (virtualization === 'none') {
    return fail(
      name,
      'the processor offers no virtualization (neither vmx nor svm)',
      'enable it in the firmware, or in the outer hypervisor',
    )
  }
  try {
    createVm()
    return ok(name, `${KVM_PATH} creates virtual machines`)
  } catch (error) {
    if (error instanceof VblkError) return fail(name, error.message, error.hint ?? '')
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'EACCES')
      return fail(name, `${KVM_PATH}: permission denied`, 'run vblk as root, or as a member of group kvm')
    return fail(name, code === 'ENOENT' ? `${KVM_PATH} is missing` : `${KVM_PATH} is of no use: ${message}`, load)
  }
}

function createVm(): void {
  const kvm = openFd(KVM_PATH, constants.O_RDWR)
  try {
    const version = ioctl(kvm, KVM_GET_API_VERSION)
    if (version !== KVM_API_VERSION) throw new Error(`its interface has version ${version}`)
    closeFd(ioctl(kvm, KVM_CREATE_VM))
  } finally {
    closeFd(kvm)
  }
}

/** By the processor's flags on x86; elsewhere KVM itself is the judge. */
async function cpuVirtualization(): Promise<'vmx' | 'svm' | 'none' | 'unknown'> {
  if (process.arch !== 'x64') return 'unknown'
  const flags = /^flags\s*:(.*)$/m.exec(await readFile('/proc/cpuinfo', 'utf8'))?.[1]?.split(' ') ?? []
  if (flags.includes('vmx')) return 'vmx'
  return flags.includes('svm') ? 'svm' : 'none'
}
