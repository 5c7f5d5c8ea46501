// SPDX-License-Identifier: GPL-2.0-or-later

import { closeFd, copyFd } from './fd.ts'
import {
  type Histogram,
  type LatencyType,
  latencyTypes,
  type QueueStats,
  readInfoOf,
  readLatency,
  readQueueStats,
} from './vhost-blk.ts'

/** One queue's counters and times, since its descriptor was opened. */
export interface QueueFigures extends QueueStats {
  /** By kind of request. */
  latency: Record<LatencyType, Histogram>
}

/**
 * Reads the queues behind a descriptor of another process, which must be one of /dev/vhost-blk. A copy of the descriptor is
 * held only meanwhile (pidfd_getfd(2)), so this takes the right to trace that process.
 * @throws an Error with code, errno and syscall: EPERM without that right, ESRCH and EBADF when process or descriptor have
 *   gone, ENOTTY when it is of another kind
 */
export function readKernelQueues(pid: number, remoteFd: number, queues: number): QueueFigures[] {
  const fd = copyFd(pid, remoteFd)
  try {
    // Whatever else the number may be by now: only this device knows the request.
    readInfoOf(fd)
    return Array.from({ length: queues }, (_, queue) => ({
      ...readQueueStats(fd, queue),
      latency: Object.fromEntries(
        latencyTypes.map((type) => [type, readLatency(fd, queue, type)]),
      ) as QueueFigures['latency'],
    }))
  } finally {
    closeFd(fd)
  }
}
