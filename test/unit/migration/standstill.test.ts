// SPDX-License-Identifier: GPL-2.0-or-later

import { describe, expect, test } from '@jest/globals'
import type { VhostState } from '../../../src/disk/vhost-state.ts'
import { requireStopped, type StoppedDisk, whyRunning } from '../../../src/migration/standstill.ts'

const state = (changes: Partial<VhostState> = {}): VhostState => ({
  active: false,
  reason: 'the VM is stopped',
  fds: [9],
  runningQueues: 0,
  requests: 3,
  errors: 0,
  ...changes,
})
const still = { running: 0, inflight: 0 }

describe('a backend', () => {
  test('is stopped when QEMU and the kernel say so', () => {
    expect(whyRunning(state(), [still])).toBeUndefined()
    expect(whyRunning(undefined, [])).toBeUndefined()
  })

  test.each([
    [state({ active: true }), [still], 'QEMU says that it is active'],
    [state({ runningQueues: 2 }), [still], 'QEMU says that 2 queues run'],
    [state(), [still, { running: 1, inflight: 0 }], 'the kernel says that 1 queues run'],
    [state(), [{ running: 0, inflight: 4 }], 'the kernel has 4 requests in flight'],
    [state({ active: true }), [{ unknown: 'no right' }], 'QEMU says that it is active'],
  ])('runs when anyone says so', (vhost, kernel, why) => {
    expect(whyRunning(vhost, kernel)).toBe(why)
  })

  test('that runs fails the check, and one that the kernel says nothing of brings a warning', () => {
    const disk = (name: string, kernel: StoppedDisk['kernel']): StoppedDisk => ({
      name,
      writeCache: { original: 'writeback', current: 'writeback' },
      state: state(),
      kernel,
    })
    const warnings: string[] = []
    const report = { warn: (message: string) => void warnings.push(message) }
    requireStopped([disk('d1', [still]), disk('d2', [{ unknown: 'EACCES' }])], report)
    expect(warnings).toEqual(["d2: only QEMU says that its backend is stopped; the kernel can't be asked: EACCES"])
    expect(() => requireStopped([disk('d1', [still]), disk('d2', [{ running: 1, inflight: 0 }])], report)).toThrow(
      'd2: its backend has not stopped: the kernel says that 1 queues run',
    )
  })
})
