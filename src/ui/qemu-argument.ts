// SPDX-License-Identifier: GPL-2.0-or-later
import { Args } from '@oclif/core'

/** The argument of commands about one QEMU binary. */
export function qemuArgument() {
  return Args.string({ name: 'QEMU', description: 'QEMU program; the one in PATH for this machine unless given' })
}
