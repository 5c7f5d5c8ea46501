// SPDX-License-Identifier: GPL-2.0-or-later
// The udev rule that comes with the module, on L1's own udev.
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { Lab } from '../lab/lab.ts'

let lab: Lab

beforeAll(async () => {
  lab = await Lab.start()
  await lab.check(['modprobe', 'vhost_blk'])
}, 300_000)

afterAll(async () => {
  await lab?.stop()
})

/** Loads the module anew, and returns owner, group and mode of its node. */
async function reload(): Promise<string> {
  const script = 'udevadm control --reload && rmmod vhost_blk && modprobe vhost_blk && udevadm settle'
  await lab.check(['sh', '-c', script])
  return (await lab.check(['stat', '-c', '%U %G %a', '/dev/vhost-blk'])).trim()
}

/**
 * Loads the module anew until its node is no longer as udev's old rules leave it. udevd (257) ignores a request that is sent
 * before it accepts the connection ("Invalid sender uid 65534"), udevadm says success, and the rules stay the old ones.
 */
async function reloadAfterChange(old: string): Promise<string> {
  let node = old
  for (let tries = 0; node === old && tries < 10; tries++) node = await reload()
  return node
}

/** Whether a user in that group and no other can open the node. */
async function opens(group: string): Promise<boolean> {
  const who = ['setpriv', '--reuid=nobody', `--regid=${group}`, '--clear-groups']
  return (await lab.exec([...who, 'sh', '-c', ': <>/dev/vhost-blk'])).exitCode === 0
}

test('the rule lets the group kvm open the device, and nobody else', async () => {
  expect(await reload()).toBe('root root 600')
  expect(await opens('kvm')).toBe(false)

  await lab.check(['make', '-s', '-C', '/opt/vblk/kmod', 'install-rules', 'KDIR=/none'])
  expect(await reloadAfterChange('root root 600')).toBe('root kvm 660')
  expect(await opens('kvm')).toBe(true)
  expect(await opens('nogroup')).toBe(false)
}, 120_000)
