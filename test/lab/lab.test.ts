// SPDX-License-Identifier: GPL-2.0-or-later
// The lab itself, and the control: what fails here is a fault of the lab, not of the project's own parts.
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { execa } from 'execa'
import { Guest } from './guest.ts'
import { kernelFaults } from './kernel-log.ts'
import { Lab } from './lab.ts'
import { hasHardwareVirtualization } from './machine.ts'
import { top } from './setup/paths.ts'

let lab: Lab

beforeAll(async () => {
  lab = await Lab.start()
}, 300_000)

afterAll(async () => {
  await lab?.stop()
})

test('a command gets its arguments untouched, and its streams and exit status come back', async () => {
  const argv = ['sh', '-c', 'printf "%s|" "$@"; printf oops >&2; cat; exit 7', 'sh', 'a b', "'", '$HOME', '\n', 'é']
  expect(await lab.exec(argv, { stdin: 'from outside' })).toEqual({
    exitCode: 7,
    stdout: "a b|'|$HOME|\n|é|from outside",
    stderr: 'oops',
  })
})

test('output of megabytes arrives whole, several commands at a time', async () => {
  const sum = (seed: number) => ['sh', '-c', `yes ${seed} | head -c 3000000`]
  const results = await Promise.all([1, 2, 3].map((seed) => lab.exec(sum(seed))))
  expect(results.map(({ stdout }) => stdout.length)).toEqual([3000000, 3000000, 3000000])
  expect(results.map(({ stdout }) => new Set(stdout).size)).toEqual([2, 2, 2])
})

test('a command that does not exist, one killed by a signal, and one that takes too long are told apart', async () => {
  expect((await lab.exec(['no-such-command'])).exitCode).toBe(127)
  expect((await lab.exec(['sh', '-c', 'kill -TERM $$'])).exitCode).toBe(143)
  await expect(lab.exec(['sleep', '60'], { timeoutMs: 300 })).rejects.toThrow('no end within 300 ms')
})

test('a fault in the kernel log is noticed, once', async () => {
  expect(await lab.kernelWarnings()).toEqual([])
  await lab.check(['sh', '-c', 'echo "<3>BUG: planted by the test" >/dev/kmsg'])
  expect((await lab.kernelWarnings()).join()).toContain('BUG: planted by the test')
  expect(await lab.kernelWarnings()).toEqual([])
})

test.each([
  'WARNING: CPU: 0 PID: 1 at fs/foo.c:1 bar+0x1/0x2',
  'BUG: kernel NULL pointer dereference, address: 0',
  'Kernel panic - not syncing: stack end',
  'watchdog: BUG: soft lockup - CPU#0 stuck for 26s!',
  'INFO: task vhost-1:2 blocked for more than 120 seconds.',
  'rcu: INFO: rcu_preempt self-detected stall on CPU',
])('counts as a fault: %s', (line) => {
  expect(kernelFaults(`[    1.0] fine\n[    2.0] ${line}\n`)).toHaveLength(1)
})

const race = (function_: string) => `
[    3.0] ==================================================================
[    3.0] BUG: KCSAN: data-race in one / other
[    3.0]
[    3.0] write to 0xffff888004b5a3c8 of 8 bytes by task 131 on cpu 2:
[    3.0]  one+0x14/0x30
[    3.0]  vhost_blk_ioctl+0x40/0x90 [vhost_blk]
[    3.0]
[    3.0] read to 0xffff888004b5a3c8 of 8 bytes by interrupt on cpu 0:
[    3.0]  ${function_}
[    3.0]
[    3.0] Reported by Kernel Concurrency Sanitizer on:
[    3.0] CPU: 0 UID: 0 PID: 131 Comm: ring Not tainted 6.12
[    3.0] ==================================================================
[    4.0] fine
`

test('counts a race as a fault if the module is a party to it', () => {
  expect(kernelFaults(race('other+0x8/0x20 [vhost_blk]')).join('\n')).toContain('BUG: KCSAN')
  expect(kernelFaults(race('other+0x8/0x20'))).toEqual([])
  expect(kernelFaults(`${race('other+0x8/0x20')}[    5.0] BUG: unable to handle page fault\n`)).toHaveLength(1)
})

test('script/lab passes the exit status on and keeps the machine until told', async () => {
  const script = (...args: string[]) =>
    execa('node', ['--import', 'tsx', 'test/lab/cli.ts', ...args], { cwd: top, reject: false, stdin: 'ignore' })
  const name = 'lab-test'
  try {
    const first = await script('exec', '--name', name, '--', 'sh', '-c', 'echo kept >/run/mark; exit 5')
    expect(first.exitCode).toBe(5)
    expect((await script('exec', '--name', name, '--', 'cat', '/run/mark')).stdout).toBe('kept')
    expect((await script('status', '--name', name)).stdout).toMatch(/running/)
  } finally {
    await script('down', '--name', name)
  }
  expect((await script('status', '--name', name)).stdout).toMatch(/down/)
  expect((await script('dance')).exitCode).toBe(2)
  expect((await script('up', '--smp', 'x')).stderr).toContain("--smp: 'x' is not a whole number")
}, 120_000)

test('the machine runs by hardware virtualization exactly where the processor has it', async () => {
  const model = await lab.check(['sh', '-c', 'grep -m1 "model name" /proc/cpuinfo'])
  if (hasHardwareVirtualization()) expect(model).not.toContain('EPYC')
  else expect(model).toContain('EPYC')
})

test('control: a guest with a stock virtio-blk disk migrates under a verifying load', async () => {
  await lab.check(['truncate', '-s', '32M', '/root/stock.raw'])
  const disk = [
    '-blockdev',
    'driver=file,node-name=stock,filename=/root/stock.raw,cache.direct=on',
    '-device',
    'virtio-blk-pci,drive=stock,id=stock,bus=port0',
  ]
  const source = await Guest.start(lab, { name: 'stock-a', device: false, args: disk })
  await source.up()
  await source.startLoad('/dev/vda', ['-t', '2'])
  const target = await Guest.start(lab, { name: 'stock-b', device: false, args: disk, incoming: true })
  await target.ask('migrate-incoming', { uri: 'unix:/run/stock.sock' })
  await source.ask('migrate', { uri: 'unix:/run/stock.sock' })
  await target.until('query-status', (reply) => (reply as { status: string }).status === 'running')
  expect(await target.stopLoad()).toMatch(/^vload: ok writes=\d+ reads=\d+ flushes=\d+ errors=0$/)
  expect([...(await target.kernelWarnings()), ...(await lab.kernelWarnings())]).toEqual([])
  await target.kill()
  await source.kill()
}, 240_000)
