// SPDX-License-Identifier: GPL-2.0-or-later
// The block device that the suites measure on.
import { loadNullBlk, makeNullBlk } from '../kmod/devices.ts'
import type { Lab } from '../lab/lab.ts'
import { deviceSize, fioCommand } from './kmod/loads.ts'

export const device = '/dev/bench'

/**
 * As null_blk is by default, but for its size (16 GiB) and room for all that the loads have in flight: it answers from a
 * softirq, or at once where the submitting processor is the only one; it keeps no data.
 */
const nullBlk = { size: deviceSize, submit_queues: 1, hw_queue_depth: 256, irqmode: 1, memory_backed: 0 }

/** Loads the module and makes the device. */
export async function prepareNullBlk(lab: Lab): Promise<void> {
  await lab.check(['modprobe', 'vhost_blk'])
  await loadNullBlk(lab)
  const made = await makeNullBlk(lab, 'bench', nullBlk)
  if (made !== device) await lab.check(['ln', '-s', made, device])
  // fio loads its libraries and the kernel its first pages before anything is measured.
  await lab.check(fioCommand(device, 'io_uring', { direction: 'read', depth: 1 }, 100))
}
