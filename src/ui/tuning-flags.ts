// SPDX-License-Identifier: GPL-2.0-or-later

import { Flags } from '@oclif/core'
import type { Tuning } from '../migration/options.ts'

/** The flags by which the user tunes QEMU's migration. */
export const tuningFlags = {
  'downtime-limit': Flags.integer({
    description: 'longest time that the guest may stand still, in milliseconds',
    helpValue: 'MS',
    min: 1,
    max: 2_000_000,
  }),
  bandwidth: Flags.integer({ description: 'bytes per second that may be sent', helpValue: 'BYTES', min: 1 }),
  'auto-converge': Flags.boolean({
    description: "slow the guest's processors down if its memory changes faster than it is sent",
  }),
  multifd: Flags.integer({ description: 'send memory through N channels at once', helpValue: 'N', min: 1, max: 255 }),
  compress: Flags.string({
    description: "compress what goes through --multifd's channels (2 unless that says more); zstd where QEMU has it",
    options: ['zlib', 'zstd'],
  }),
  postcopy: Flags.boolean({
    description:
      'when all memory was sent once and the rest does not fit into the downtime, let the VM run at the destination and fetch it from here: neither QEMU can go on alone until that is over',
    exclusive: ['multifd', 'compress'],
  }),
  'postcopy-after': Flags.integer({
    description: 'do so after that time, whatever was sent',
    helpValue: 'SECONDS',
    min: 0,
    max: 2_000_000,
    dependsOn: ['postcopy'],
  }),
  datapath: Flags.option({
    description:
      'kernel: refuse a destination where the kernel would not serve every disk; auto: QEMU may serve them there',
    options: ['kernel', 'auto'] as const,
    default: 'auto' as const,
  })(),
}

interface TuningFlags {
  'downtime-limit'?: number | undefined
  bandwidth?: number | undefined
  'auto-converge'?: boolean | undefined
  multifd?: number | undefined
  compress?: string | undefined
  postcopy?: boolean | undefined
  'postcopy-after'?: number | undefined
  datapath?: 'kernel' | 'auto' | undefined
}

export function tuningOf(flags: TuningFlags): Tuning {
  return {
    downtimeLimitMs: flags['downtime-limit'],
    bandwidth: flags.bandwidth,
    autoConverge: flags['auto-converge'],
    multifdChannels: flags.multifd ?? (flags.compress === undefined ? undefined : 2),
    multifdCompression: flags.compress,
    postcopy: flags.postcopy === true ? true : undefined,
    postcopyAfter: flags['postcopy-after'],
    datapath: flags.datapath === 'kernel' ? 'kernel' : undefined,
  }
}
