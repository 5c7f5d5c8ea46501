// SPDX-License-Identifier: GPL-2.0-or-later

import type { Vm } from '../../vm/vm.ts'
import type { ProcessIdentity } from '../journal/record.ts'
import type { OtherHost } from './other-host.ts'

/** A VM's QEMU on another host: what of it this host can't see for itself, that host is asked for. */
export interface ThereVm {
  host: OtherHost
  /** The process that serves its monitor; null if there is none. */
  process: ProcessIdentity | null
}

const there = new WeakMap<Vm, ThereVm>()

/** Says that a VM's QEMU is on another host. */
export const setHost = (vm: Vm, at: ThereVm): void => void there.set(vm, at)

/** Where a VM's QEMU is, if it is on another host that vblk can ask; undefined for one of this host. */
export const hostOf = (vm: Vm): ThereVm | undefined => there.get(vm)
