// SPDX-License-Identifier: GPL-2.0-or-later
// The lab of two hosts itself: they are two, reach each other, and see one disk.
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import type { Lab } from './lab.ts'
import { TwoHosts } from './two-hosts.ts'

let pair: TwoHosts

beforeAll(async () => {
  pair = await TwoHosts.start()
}, 300_000)

afterAll(async () => {
  await pair?.stop()
})

const both = async (argv: string[]) => await Promise.all([pair.one.check(argv), pair.two.check(argv)])

test('nothing by which hosts are told apart is the same on both', async () => {
  expect(await both(['hostname'])).toEqual(['one\n', 'two\n'])
  const files = ['/etc/machine-id', '/proc/sys/kernel/random/boot_id', '/etc/ssh/ssh_host_ed25519_key']
  for (const file of [...files, '/sys/class/net/enp0s5/address']) {
    const [one, two] = await both(['cat', file])
    expect(one).not.toBe(two)
    expect(one?.trim()).not.toBe('')
  }
})

test('each is root of the other by ssh, without a question, and finds vblk there', async () => {
  const command = (there: string) => ['ssh', '-o', 'BatchMode=yes', there, 'hostname; command -v vblk']
  const [fromOne, fromTwo] = await Promise.all([pair.one.exec(command('two')), pair.two.exec(command('one'))])
  expect([fromOne.stdout, fromTwo.stdout]).toEqual(['two\n/usr/local/bin/vblk\n', 'one\n/usr/local/bin/vblk\n'])
  expect((await pair.one.exec(['ssh', '-o', 'BatchMode=yes', 'nobody@two', 'true'])).exitCode).toBe(255)
})

test('their disk is one: what either writes, the other reads at once', async () => {
  const write = (lab: Lab, word: string, block: number) => {
    const dd = 'yes "$1" | dd of="$2" bs=4096 count=1 seek="$3" iflag=fullblock oflag=direct status=none'
    return lab.check(['sh', '-euc', dd, 'sh', word, pair.disk, String(block)])
  }
  const read = async (lab: Lab, block: number) => {
    const argv = ['dd', `if=${pair.disk}`, 'bs=4096', 'count=1', `skip=${block}`, 'iflag=direct', 'status=none']
    return (await lab.check(argv)).split('\n')[0]
  }
  for (const block of [0, 16383]) {
    await write(pair.one, 'from one', block)
    expect(await read(pair.two, block)).toBe('from one')
    await write(pair.two, 'from two', block)
    expect(await read(pair.one, block)).toBe('from two')
  }
  const [one, two] = await both(['sh', '-c', 'cat /sys/block/nvme0n1/wwid; blockdev --getsize64 "$0"', pair.disk])
  expect(one).toMatch(/^uuid\.[0-9a-f-]{36}\n67108864\n$/)
  expect(two).toBe(one)
})

test('neither kernel complains', async () => {
  expect(await pair.kernelWarnings()).toEqual([])
})
