// SPDX-License-Identifier: GPL-2.0-or-later

import type { Vm } from '../vm/vm.ts'
import type { JournalStore } from './journal/store.ts'
import type { CopyRequests } from './storage/plan-copy.ts'

/** Who hears how a migration gets on; the commands' progress display is one. */
export interface Report {
  step<R>(title: string, run: (step: { detail(text: string): void }) => Promise<R>): Promise<R>
  warn(message: string): void
}

/** What the user asks of QEMU's migration; QEMU's own settings where nothing is asked. */
export interface Tuning {
  /** Longest time that QEMU may plan the guest to stand still, in milliseconds. */
  downtimeLimitMs?: number | undefined
  /** Bytes per second. */
  bandwidth?: number | undefined
  /** Slow the guest's processors down when memory changes faster than it is sent. */
  autoConverge?: boolean | undefined
  /** Send memory through so many channels at once. */
  multifdChannels?: number | undefined
  /** Compress what goes through these channels. */
  multifdCompression?: string | undefined
  /** Let the VM run at the destination when a part of its memory is there, and have the rest follow. */
  postcopy?: boolean | undefined
  /** Begin with that after so many seconds of copying; when all memory was sent once, unless told. */
  postcopyAfter?: number | undefined
  /** Refuse a destination where the kernel would not serve every disk. */
  datapath?: 'kernel' | undefined
}

export interface MigrateOptions extends Tuning {
  /** For everything up to the point of no return together. */
  timeoutMs: number
  /** Aborted when the user wants to stop: what was begun is rolled back. */
  signal: AbortSignal
  report: Report
  /** Where every phase is written before it is entered. */
  journal: JournalStore
  /** Checks everything, changes nothing, and returns the commands that it would send. */
  dryRun: boolean
  /** Leave the source's QEMU there, stopped, instead of ending it. */
  keepSource: boolean
  /** The disks whose storage goes along; all others are shared. */
  copyStorage?: CopyRequests
}

export type Side = 'source' | 'destination'

/** The two QEMUs of a migration. */
export type Sides = Record<Side, Vm>
