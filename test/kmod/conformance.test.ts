// SPDX-License-Identifier: GPL-2.0-or-later
// The kernel module, driven in the lab by a VMM and guest in one process (test/kmod/ring): one test a case of its.
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { Lab } from '../lab/lab.ts'
import { labFiles, top } from '../lab/setup/paths.ts'

const ring = '/opt/vblk/lab/bin/ring'
const imageDir = '/run/ring'

/** Statically linked: the list of cases can be had without a lab. */
const localRing = join(labFiles, 'bin/ring')
if (!existsSync(localRing)) throw new Error(`${localRing} is not built; run script/setup`)
const cases = execFileSync(localRing, ['--list'], { encoding: 'utf8' }).trim().split('\n')

let lab: Lab
let devices: { cached: string; slow: string }

/** Makes a null_blk device with these settings and waits for its node. */
async function makeNullBlk(name: string, settings: Record<string, number>): Promise<string> {
  const dir = `/sys/kernel/config/nullb/${name}`
  await lab.check(['mkdir', dir])
  for (const [key, value] of Object.entries({ ...settings, power: 1 }))
    await lab.check(['sh', '-c', 'echo "$1" >"$2"', 'sh', `${value}`, `${dir}/${key}`])
  const index = (await lab.check(['cat', `${dir}/index`])).trim()
  const found = await lab.check([
    'sh',
    '-c',
    'for i in $(seq 100); do for f in "$@"; do if [ -b "$f" ]; then echo "$f"; exit; fi; done; sleep 0.05; done',
    'sh',
    `/dev/${name}`,
    `/dev/nullb${index}`,
  ])
  if (!found) throw new Error(`null_blk ${name} got no device node`)
  return found.trim()
}

beforeAll(async () => {
  lab = await Lab.start()
  await lab.check(['modprobe', 'vhost_blk'])
  await lab.check(['modprobe', 'null_blk', 'nr_devices=0'])
  await lab.exec(['mount', '-t', 'configfs', 'configfs', '/sys/kernel/config'])
  const memory = { size: 64, memory_backed: 1, discard: 1 }
  devices = {
    // A volatile cache without FUA: a durable write shows as a flush of the device.
    cached: await makeNullBlk('ring-cached', { ...memory, cache_size: 8, fua: 0 }),
    slow: await makeNullBlk('ring-slow', { ...memory, irqmode: 2, completion_nsec: 100_000_000 }),
  }
  // An ext4 of its own: some cases freeze it.
  const disk = await makeNullBlk('ring-files', memory)
  await lab.check(['mkfs.ext4', '-q', disk])
  await lab.check(['mkdir', '-p', imageDir])
  await lab.check(['mount', disk, imageDir])
  await lab.kernelWarnings()
}, 300_000)

afterAll(async () => {
  await lab?.stop()
})

describe('/dev/vhost-blk', () => {
  test.each(cases)(
    '%s',
    async (name) => {
      const { cached, slow } = devices
      const { exitCode, stdout, stderr } = await lab.exec(
        [ring, '--dir', imageDir, '--block', cached, '--slow', slow, name],
        { timeoutMs: 110_000 },
      )
      expect(`${stdout}${stderr}`).toBe(`ok ${name}\n`)
      expect(exitCode).toBe(0)
      expect(await lab.kernelWarnings()).toEqual([])
    },
    120_000,
  )
})

describe('the module', () => {
  test('is told by modinfo: version and license', async () => {
    const { version } = JSON.parse(readFileSync(join(top, 'package.json'), 'utf8'))
    expect((await lab.check(['modinfo', '-F', 'version', 'vhost_blk'])).trim()).toBe(version)
    expect((await lab.check(['modinfo', '-F', 'license', 'vhost_blk'])).trim()).toBe('GPL')
    expect(await lab.check(['modinfo', '-F', 'parm', 'vhost_blk'])).toBe('')
  })

  test('leaves no thread behind, unloads after all that, and loads again', async () => {
    expect((await lab.exec(['pgrep', '-l', '^vhost'])).stdout).toBe('')
    await lab.check(['rmmod', 'vhost_blk'])
    expect((await lab.exec(['test', '-e', '/dev/vhost-blk'])).exitCode).toBe(1)
    await lab.check(['modprobe', 'vhost_blk'])
    expect((await lab.exec(['test', '-c', '/dev/vhost-blk'])).exitCode).toBe(0)
    expect(await lab.kernelWarnings()).toEqual([])
  })
})
