// SPDX-License-Identifier: GPL-2.0-or-later

import { pause } from '../../disk/pause.ts'
import { ExitCode, VblkError } from '../../errors.ts'
import type { CommandReturns, WaitOptions } from '../../qmp/index.ts'
import type { Vm } from '../../vm/vm.ts'
import { type CopiedDisk, copyName } from './copy.ts'

/** A block job as its QEMU tells it. */
export type Job = CommandReturns<'query-jobs'>[number]

const pollMs = 100
const hurryMs = 5

/**
 * Waits until the job of every copy has the status. Throws VblkError (exit code 7) in QEMU's words if one has ended with an
 * error, or is not there any more, and what QmpClient.execute throws.
 */
export async function awaitJobs(
  { qmp }: Vm,
  disks: readonly CopiedDisk[],
  wanted: 'ready' | 'concluded',
  { signal, watch }: WaitOptions & { watch?: (jobs: Job[]) => void },
): Promise<Job[]> {
  while (true) {
    const all = await qmp.execute('query-jobs', {}, { signal })
    const jobs = disks.map((disk) => healthy(disk, all, wanted))
    watch?.(jobs)
    if (jobs.every(({ status }) => status === wanted)) return jobs
    // The guest stands still while jobs are ended.
    await pause(wanted === 'ready' ? pollMs : hurryMs, signal)
  }
}

/** A copy's job, unless it has failed. */
function healthy(disk: CopiedDisk, all: readonly Job[], wanted: Job['status']): Job {
  const job = all.find(({ id }) => id === copyName(disk))
  if (job === undefined) throw failed(disk, 'another has ended it')
  if (job.error !== undefined) throw failed(disk, job.error)
  if (job.status === 'concluded' && job.status !== wanted) throw failed(disk, 'another has ended it')
  return job
}

function failed({ name, copy: { file } }: CopiedDisk, why: string): VblkError {
  return new VblkError('STORAGE_NOT_COPIED', ExitCode.RolledBack, `${name}: copying it to ${file} failed: ${why}`)
}
