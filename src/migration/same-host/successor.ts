// SPDX-License-Identifier: GPL-2.0-or-later

import { resolveVm } from '../../vm/resolve.ts'
import type { Vm } from '../../vm/vm.ts'
import { awaitProcessEnd, identifyVm } from '../journal/process-identity.ts'
import type { ProcessIdentity } from '../journal/record.ts'
import type { MigratedVm } from '../result.ts'
import { newSuffix, type Started, type SuccessorOptions, startSuccessor } from './start.ts'
import { takeNames } from './take-names.ts'

/** The QEMU that takes a VM over from another one of the same host, from its start to its names. */
export class Successor {
  readonly #options: SuccessorOptions
  #started: Started | undefined
  #predecessor: ProcessIdentity | null = null
  #monitor = { from: '', to: '' }

  constructor(options: Omit<SuccessorOptions, 'suffix'>) {
    this.#options = { ...options, suffix: newSuffix() }
  }

  /** Where its monitor is until the VM has moved. Throws what resolveVm throws. */
  async nameFor(vm: string): Promise<string> {
    const { path } = await resolveVm(vm)
    return path + this.#options.suffix
  }

  /** Starts it; throws what startSuccessor throws. */
  async start(source: Vm, destination: string): Promise<boolean> {
    const { path } = await resolveVm(source.name)
    this.#monitor = { from: destination, to: path }
    this.#predecessor = identifyVm(source) ?? null
    this.#started = await startSuccessor(source, destination, this.#options)
    return true
  }

  /** When the source has ended, its sockets' names are free: the new QEMU gets them, its monitor's only if told. */
  async settle(result: MigratedVm, withMonitor: boolean): Promise<MigratedVm> {
    if (this.#started === undefined) return result
    const { names } = this.#started
    // Until its very end it removes the files that have its names.
    if (result.source !== 'quit' || !(await awaitProcessEnd(this.#predecessor))) {
      const { warn, suffix } = this.#options
      warn(`the source's QEMU has not ended: the names of the new one's sockets still end in ${suffix}`)
      return result
    }
    const wanted = withMonitor ? [...names, this.#monitor] : names
    const taken = await takeNames(wanted, this.#started, this.#options.warn)
    return withMonitor && taken.includes(this.#monitor.to) ? { ...result, destination: result.vm } : result
  }
}
