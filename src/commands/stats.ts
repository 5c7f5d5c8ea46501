// SPDX-License-Identifier: GPL-2.0-or-later

import { Args, Flags } from '@oclif/core'
import { pause } from '../disk/pause.ts'
import { type DiskWork, workOf } from '../disk/rates.ts'
import { readStats, type StatsSample } from '../disk/stats.ts'
import { ExitCode, VblkError } from '../errors.ts'
import { QmpConnectionLostError } from '../qmp/index.ts'
import { BaseCommand, type Context } from '../ui/base-command.ts'
import { vmArgument } from '../ui/disk-text.ts'
import { formatOpenMetrics } from '../ui/openmetrics.ts'
import { secondsFlag } from '../ui/seconds-flag.ts'
import { formatWork } from '../ui/stats-text.ts'
import { withVm } from '../vm/vm.ts'

/** One reading. With --watch each is a document of its own, and its figures are those of the last `seconds`. */
export interface StatsReading {
  /** Like '2026-01-31T12:00:00.000Z'. */
  at: string
  /** Null: the figures are sums since the disks were made, those of queues since the kernel began to serve. */
  seconds: number | null
  disks: DiskWork[]
}

export type StatsResult = StatsReading | { readings: number }

export default class Stats extends BaseCommand<StatsResult> {
  static override summary = "show what a VM's disks do: requests, throughput, times"

  static override description =
    `Sums since the disks were made, or with --watch what they do each second, by disk and by queue. Times are from fetching
a request to answering it. Percentiles are of the requests that the kernel serves; reading them takes root.`

  static override examples = [
    '<%= config.bin %> stats /run/vm1.qmp',
    '<%= config.bin %> stats /run/vm1.qmp data --watch --interval 5',
    '<%= config.bin %> stats /run/vm1.qmp --watch --count 10 --json',
    { description: 'for Prometheus', command: '<%= config.bin %> stats /run/vm1.qmp --format openmetrics' },
  ]

  static override args = {
    vm: vmArgument(),
    id: Args.string({ description: "the disk's id in the VM; all disks unless given" }),
  }

  static override flags = {
    watch: Flags.boolean({ char: 'w', description: 'go on until --count, --timeout or Ctrl-C' }),
    interval: secondsFlag({ description: 'time between two readings', dependsOn: ['watch'] }),
    count: Flags.integer({ description: 'end after so many readings', helpValue: 'N', min: 1, dependsOn: ['watch'] }),
    format: Flags.option({
      description: 'a table, or the text that Prometheus reads',
      options: ['table', 'openmetrics'] as const,
      default: 'table' as const,
      exclusive: ['watch', 'json'],
    })(),
  }

  static override defaultTimeout = 30

  #vm = ''
  #sample: StatsSample | undefined

  protected override async execute(context: Context<typeof Stats>): Promise<StatsResult> {
    const { args, flags, signal, timeoutMs, trace, progress } = context
    const warned = new Set<string>()
    const warn = (problems: string[]) => {
      for (const problem of problems.filter((text) => !warned.has(text))) progress.warn(problem)
      for (const problem of problems) warned.add(problem)
    }
    if (flags.watch) return await this.#watch(context, warn)
    const sample = await withVm(args.vm, { timeoutMs, signal, trace }, (vm) => readStats(vm, args.id, { signal }))
    warn(sample.problems)
    if (flags.format === 'openmetrics') {
      this.#vm = args.vm
      this.#sample = sample
    }
    return reading(sample, workOf(sample), null)
  }

  async #watch(context: Context<typeof Stats>, warn: (problems: string[]) => void): Promise<StatsResult> {
    const { args, flags, signal, trace, emit } = context
    const deadline = flags.timeout === undefined ? Number.POSITIVE_INFINITY : Date.now() + flags.timeout * 1000
    const intervalMs = (flags.interval ?? 1) * 1000
    return await withVm(args.vm, { signal, trace }, async (vm) => {
      try {
        let earlier = await readStats(vm, args.id, { signal })
        for (let readings = 0; ; readings++) {
          warn(earlier.problems)
          if (readings === flags.count || Date.now() + intervalMs > deadline) return { readings }
          await pause(intervalMs, signal)
          const sample = await readStats(vm, args.id, { signal })
          const seconds = Math.max(1, sample.atMs - earlier.atMs) / 1000
          const work = workOf(sample, earlier)
          await emit(reading(sample, work, seconds), `${this.#clear()}${formatWork(work, seconds)}`)
          earlier = sample
        }
      } catch (error) {
        if (!(error instanceof QmpConnectionLostError)) throw error
        throw new VblkError('VM_GONE', ExitCode.NotFound, `${vm.name}: its QEMU has ended`, { cause: error })
      }
    })
  }

  /** On a terminal each table replaces the one before. */
  #clear(): string {
    return process.stdout.isTTY ? '\u001b[H\u001b[J' : ''
  }

  protected override render(result: StatsResult): string {
    if (this.#sample !== undefined) return formatOpenMetrics(this.#vm, this.#sample)
    return 'disks' in result ? formatWork(result.disks) : ''
  }
}

function reading({ atMs }: StatsSample, disks: DiskWork[], seconds: number | null): StatsReading {
  return { at: new Date(atMs).toISOString(), seconds, disks }
}
