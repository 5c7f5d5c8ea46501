// SPDX-License-Identifier: GPL-2.0-or-later

import type { Vm } from '../vm/vm.ts'
import type { JournalStore } from './journal/store.ts'

/** Who hears how a migration gets on; the commands' progress display is one. */
export interface Report {
  step<R>(title: string, run: (step: { detail(text: string): void }) => Promise<R>): Promise<R>
  warn(message: string): void
}

export interface MigrateOptions {
  /** For everything up to the point of no return together. */
  timeoutMs: number
  /** Aborted when the user wants to stop: what was begun is rolled back. */
  signal: AbortSignal
  report: Report
  /** Where every phase is written before it is entered. */
  journal: JournalStore
  /** Checks everything, changes nothing, and returns the commands that it would send. */
  dryRun: boolean
  /** Longest time that QEMU may plan the guest to stand still; QEMU's own setting if not given. */
  downtimeLimitMs?: number | undefined
  /** Bytes per second; QEMU's own setting if not given. */
  bandwidth?: number | undefined
  /** Leave the source's QEMU there, stopped, instead of ending it. */
  keepSource: boolean
}

export type Side = 'source' | 'destination'

/** The two QEMUs of a migration. */
export type Sides = Record<Side, Vm>
