// SPDX-License-Identifier: GPL-2.0-or-later

import { stat } from 'node:fs/promises'
import { pause } from '../../disk/pause.ts'
import { hasNode } from '../../disk/unplug.ts'
import { ExitCode, VblkError } from '../../errors.ts'
import { QmpCommandError } from '../../qmp/index.ts'
import type { Vm } from '../../vm/vm.ts'
import type { Remains } from '../plan.ts'
import { copiedDisks, copyName, nbdSocket } from './copy.ts'

const answerMs = 10_000
const endMs = 30_000
const pollMs = 50

/**
 * Gives up what copies a source's disks, as far as it is there: the disk stays on its image, and what serves it may be the kernel
 * again. Throws VblkError when a job does not end, and what QmpClient.execute throws.
 */
export async function removeCopies({ qmp, name: vm }: Vm, plan: Pick<Remains, 'disks'>): Promise<void> {
  const names = copiedDisks(plan.disks).map(copyName)
  if (names.length === 0) return
  const wait = { timeoutMs: answerMs }
  const deadline = Date.now() + endMs
  while (true) {
    const jobs = (await qmp.execute('query-jobs', {}, wait)).filter(({ id }) => names.includes(id))
    if (jobs.length === 0) break
    if (Date.now() > deadline)
      throw new VblkError('COPY_LEFT', ExitCode.Unknown, `${vm}: the job ${jobs[0]?.id} does not end`)
    for (const { id, status } of jobs) {
      // Without `force` a job that is ready would first bring its copy to its end.
      if (status === 'concluded') await unlessGone(qmp.execute('job-dismiss', { id }, wait))
      else await unlessGone(qmp.execute('block-job-cancel', { device: id, force: true }, wait))
    }
    await pause(pollMs)
  }
  for (const name of names) {
    if (await hasNode({ name: vm, qmp }, name, wait)) await qmp.execute('blockdev-del', { 'node-name': name }, wait)
  }
}

/**
 * Ends the destination's NBD server with its exports, if it is this migration's. The disks are as they were before, inactive.
 * Throws what QmpClient.execute throws.
 */
export async function closeExports(
  { qmp, name: vm }: Vm,
  plan: Pick<Remains, 'disks'>,
  channel: string,
): Promise<void> {
  const disks = copiedDisks(plan.disks)
  if (disks.length === 0) return
  const wait = { timeoutMs: answerMs }
  // QEMU has one server, and the socket tells whose it is. Its end is that of its exports.
  const isOurs = await stat(nbdSocket(channel)).catch(() => undefined)
  if (isOurs !== undefined) await unlessGone(qmp.execute('nbd-server-stop', {}, wait))
  for (const { copy } of disks) {
    const isThere = await hasNode({ name: vm, qmp }, copy.node, wait)
    if (isThere) await qmp.execute('blockdev-set-active', { 'node-name': copy.node, active: false }, wait)
  }
}

/** What ends by itself meanwhile is as good as ended; what doesn't is seen by the next look. */
async function unlessGone(reply: Promise<unknown>): Promise<void> {
  try {
    await reply
  } catch (error) {
    if (!(error instanceof QmpCommandError)) throw error
  }
}
