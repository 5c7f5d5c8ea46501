// SPDX-License-Identifier: GPL-2.0-or-later
// The demo as a user runs it, and its control.
import { join } from 'node:path'
import { expect, jest, test } from '@jest/globals'
import { execa } from 'execa'
import { top } from '../lab/setup/paths.ts'
import type { DemoResult } from './demo.ts'

jest.setTimeout(600_000)

const hash = expect.stringMatching(/^[0-9a-f]{64}$/)

async function demo(...args: string[]): Promise<DemoResult> {
  const { stdout, stderr, exitCode } = await execa(join(top, 'script/demo'), [...args, '--json'], {
    reject: false,
    stdin: 'ignore',
  })
  const { ok, result } = JSON.parse(stdout)
  if (!ok || exitCode !== 0) throw new Error(`the demo failed with exit ${exitCode}\n${stderr}`)
  return result
}

test('a disk served by the kernel keeps its data and its write cache across a migration under load', async () => {
  const result = await demo()
  expect(result).toMatchObject({
    qemu: { version: expect.stringMatching(/^\d+\.\d+\.\d+$/) },
    kernel: { release: expect.stringMatching(/^\d+\.\d+/) },
    attach: { datapath: 'kernel' },
    migration: {
      datapath: { before: 'kernel', after: 'kernel' },
      backendStoppedBeforeSave: true,
      writeCache: { original: 'writeback', before: 'writethrough', after: 'writethrough' },
    },
    sha256: { guestSource: hash, guestDestination: result.sha256.guestSource, image: result.sha256.guestSource },
    load: expect.stringMatching(/^vload: ok writes=[1-9]/),
    kernelWarnings: 0,
  })
  expect(result.attach.kernelRequests).toBeGreaterThan(0)
  expect(result.migration.kernelRequestsAfter).toBeGreaterThan(0)
  expect(result.migration.downtimeMs).toBeGreaterThan(0)
})

test('control: the same in userspace, and the kernel counts nothing', async () => {
  const result = await demo('--datapath', 'userspace')
  expect(result).toMatchObject({
    attach: { datapath: 'userspace', kernelRequests: 0 },
    migration: {
      datapath: { before: 'userspace', after: 'userspace' },
      kernelRequestsAfter: 0,
      writeCache: { original: 'writeback', before: 'writethrough', after: 'writethrough' },
    },
    sha256: { guestSource: hash, guestDestination: result.sha256.guestSource, image: result.sha256.guestSource },
    load: expect.stringMatching(/^vload: ok writes=[1-9]/),
    kernelWarnings: 0,
  })
})
