// SPDX-License-Identifier: GPL-2.0-or-later
// doctor on this machine, which is no vhost-blk host: the module for its kernel is neither built nor loaded.
import { existsSync } from 'node:fs'
import { release } from 'node:os'
import { beforeAll, describe, expect, jest, test } from '@jest/globals'
import { builtObject } from '../device/root-qemu.ts'
import { vblkInRoot } from './in-root.ts'
import { vblk } from './qemu.ts'

jest.setTimeout(60_000)

interface Check {
  name: string
  status: string
  message: string
  fix: string | null
}

interface Failure {
  code: string
  exitCode: number
  message: string
  hint: string
  details: { checks: Check[] }
}

const names = [
  'kernel',
  'kernel-headers',
  'btf',
  'compiler',
  'module-built',
  'module-loaded',
  'module-abi',
  'device-node',
  'kvm',
  'qemu',
  'qemu-device',
]

describe("in the lab's root, which has a QEMU and a device for it", () => {
  let failure: Failure
  let text: { exitCode: number; stdout: string; stderr: string }

  beforeAll(async () => {
    const json = await vblkInRoot(['doctor', '--json'])
    expect(json.exitCode).toBe(4)
    expect(json.stderr).toBe('')
    const document = JSON.parse(json.stdout)
    expect(document).toMatchObject({ ok: false, warnings: [] })
    failure = document.error
    text = await vblkInRoot(['doctor'])
  })

  const find = (name: string) => failure.details.checks.find((check) => check.name === name)

  test('lists every check, and names the failed ones in one line', () => {
    const { checks } = failure.details
    expect(checks.map(({ name }) => name)).toEqual(names)
    const failed = checks.filter(({ status }) => status === 'fail')
    expect(failure).toMatchObject({
      code: 'CHECK_FAILED',
      exitCode: 4,
      message: `${failed.length} of ${checks.length} checks failed: ${failed.map(({ name }) => name).join(', ')}`,
      hint: `begin with: ${failed[0]?.fix}`,
    })
    for (const { status, fix } of checks) expect(fix === null).toBe(status === 'ok')
  })

  test('finds what is there', async () => {
    expect(find('kernel')).toEqual({ name: 'kernel', status: 'ok', message: release(), fix: null })
    expect(find('qemu')).toMatchObject({ status: 'ok', message: '/usr/bin/qemu-system-x86_64 version 10.0.13' })
    expect(find('qemu-device')).toMatchObject({ status: 'ok', message: await builtObject() })
    expect(find('btf')?.status).toBe(existsSync('/sys/kernel/btf/vmlinux') ? 'ok' : 'fail')
    expect(find('compiler')?.status).toBe('ok')
  })

  test('names the command for what is not', () => {
    expect(find('kernel-headers')).toEqual({
      name: 'kernel-headers',
      status: 'fail',
      message: `the headers of kernel ${release()} are missing (/lib/modules/${release()}/build)`,
      fix: `apt-get install linux-headers-${release()}`,
    })
    expect(find('module-loaded')).toEqual({
      name: 'module-loaded',
      status: 'fail',
      message: 'vhost_blk is not loaded',
      fix: 'vblk module load',
    })
    expect(find('device-node')).toMatchObject({ status: 'fail', message: '/dev/vhost-blk is missing' })
  })

  test('the text has the list on stdout and the verdict on stderr', () => {
    expect(text.exitCode).toBe(4)
    expect(text.stdout).toContain(`ok    kernel          ${release()}\n`)
    expect(text.stdout).toContain(
      'fail  module-loaded   vhost_blk is not loaded\n                      mend it: vblk module load\n',
    )
    expect(text.stderr).toBe(`Error: ${failure.message}\nHint: ${failure.hint}\n`)
  })
})

describe('--qemu', () => {
  const checkQemu = async (program: string) => {
    const { exitCode, envelope } = await vblk(['doctor', '--qemu', program])
    expect(exitCode).toBe(4)
    return (envelope as unknown as { error: Failure }).error.details.checks.filter(({ name }) =>
      name.startsWith('qemu'),
    )
  }

  test('a program that is not there', async () => {
    expect(await checkQemu('/nonexistent/qemu')).toMatchObject([
      { name: 'qemu', status: 'fail', message: '/nonexistent/qemu: no such file' },
      { name: 'qemu-device', status: 'fail' },
    ])
  })

  test('a program that is no QEMU', async () => {
    expect(await checkQemu('/bin/ls')).toMatchObject([
      {
        name: 'qemu',
        status: 'fail',
        message: expect.stringMatching(/^\/usr\/bin\/ls --version does not tell a version: /),
      },
      { name: 'qemu-device', status: 'fail', fix: 'vblk device build /usr/bin/ls' },
    ])
  })
})
