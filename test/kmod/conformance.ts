// SPDX-License-Identifier: GPL-2.0-or-later
// The kernel module, driven in the lab by a VMM and guest in one process (test/kmod/ring): one test a case of its.
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { Lab } from '../lab/lab.ts'
import type { MachineOptions } from '../lab/machine.ts'
import { labFiles, top } from '../lab/setup/paths.ts'
import { prepareRing } from './devices.ts'

/** Statically linked: the list of cases can be had without a lab. */
const localRing = join(labFiles, 'bin/ring')
if (!existsSync(localRing)) throw new Error(`${localRing} is not built; run script/setup`)
export const allCases = execFileSync(localRing, ['--list'], { encoding: 'utf8' }).trim().split('\n')

/**
 * Defines the tests of the module on one kind of machine.
 *
 * @param machine what differs from the lab's usual machine
 * @param cases of the ring driver; all unless given
 * @param slowness how many times longer than usual a case may take: kernels that check everything are slow
 */
export function conformance(machine: Partial<MachineOptions> = {}, cases = allCases, slowness = 1): void {
  let lab: Lab
  let command: string[]

  beforeAll(async () => {
    lab = await Lab.start(machine)
    await lab.check(['modprobe', 'vhost_blk'])
    command = await prepareRing(lab)
    await lab.kernelWarnings()
  }, 300_000 * slowness)

  afterAll(async () => {
    await lab?.stop()
  })

  describe('/dev/vhost-blk', () => {
    test.each(cases)(
      '%s',
      async (name) => {
        const timeoutMs = 110_000 * slowness
        const { exitCode, stdout, stderr } = await lab.exec([...command, name], { timeoutMs })
        expect(`${stdout}${stderr}`).toBe(`ok ${name}\n`)
        expect(exitCode).toBe(0)
        expect(await lab.kernelWarnings()).toEqual([])
      },
      120_000 * slowness,
    )
  })

  describe('the module', () => {
    test(
      'is told by modinfo: version and license',
      async () => {
        const { version } = JSON.parse(readFileSync(join(top, 'package.json'), 'utf8'))
        expect((await lab.check(['modinfo', '-F', 'version', 'vhost_blk'])).trim()).toBe(version)
        expect((await lab.check(['modinfo', '-F', 'license', 'vhost_blk'])).trim()).toBe('GPL')
        expect(await lab.check(['modinfo', '-F', 'parm', 'vhost_blk'])).toBe('')
      },
      60_000 * slowness,
    )

    test(
      'leaves no thread behind, unloads after all that, and loads again',
      async () => {
        expect((await lab.exec(['pgrep', '-l', '^vhost'])).stdout).toBe('')
        await lab.check(['rmmod', 'vhost_blk'])
        expect((await lab.exec(['test', '-e', '/dev/vhost-blk'])).exitCode).toBe(1)
        await lab.check(['modprobe', 'vhost_blk'])
        expect((await lab.exec(['test', '-c', '/dev/vhost-blk'])).exitCode).toBe(0)
        expect(await lab.kernelWarnings()).toEqual([])
      },
      60_000 * slowness,
    )
  })
}
