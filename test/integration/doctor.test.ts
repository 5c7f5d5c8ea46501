// SPDX-License-Identifier: GPL-2.0-or-later
// doctor on this machine, which is no vhost-blk host: the module for its kernel is neither built nor loaded.
import { existsSync } from 'node:fs'
import { release } from 'node:os'
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals'
import { builtObject } from '../device/root-qemu.ts'
import { vblkInRoot } from './in-root.ts'
import { makeFolder, Qemu, removeFolder, vblk } from './qemu.ts'

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
  'module-signature',
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
    expect(text.stdout).toContain(`ok    kernel            ${release()}\n`)
    expect(text.stdout).toContain(
      'fail  module-loaded     vhost_blk is not loaded\n                        mend it: vblk module load\n',
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

describe('of VMs', () => {
  let dir: string
  const qemus: Qemu[] = []
  beforeAll(async () => {
    dir = await makeFolder()
    qemus.push(await Qemu.start(dir, 'with', { ports: 2 }))
    qemus.push(await Qemu.start(dir, 'without', { ports: 0, plugin: false }))
  })
  afterAll(async () => {
    await Promise.all(qemus.map((qemu) => qemu.stop()))
    await removeFolder(dir)
  })

  test('tells device, slots, and what may keep QEMU from the kernel, each VM by its name', async () => {
    const [first = '', second = ''] = qemus.map(({ socket }) => socket)
    const { exitCode, envelope } = await vblk(['doctor', first, second])
    expect(exitCode).toBe(4)
    const { checks } = (envelope as unknown as { error: Failure }).error.details
    const of = (vm: string) => checks.filter(({ message }) => message.startsWith(`${vm}: `))
    expect(of(first).map(({ name }) => name)).toEqual(
      'vm vm-device vm-slots vm-user vm-cgroup vm-confinement vm-files'.split(' '),
    )
    expect(of(first).slice(0, 3)).toMatchObject([{ status: 'ok' }, { status: 'ok' }, { status: 'ok' }])
    // There is no /dev/vhost-blk here.
    expect(of(first)[3]).toMatchObject({ status: 'warn', fix: 'vblk module load' })
    expect(of(first)[2]?.message).toBe(`${first}: 2 of 2 hot-plug ports free (rp1, rp2)`)
    expect(of(second).slice(1, 3)).toMatchObject([
      { name: 'vm-device', status: 'fail', fix: expect.stringContaining('vblk device args') },
      { name: 'vm-slots', status: 'fail', message: `${second}: it has no hot-plug port` },
    ])
  })

  test('one that is not there is not found, one that does not answer is a failed check', async () => {
    expect(await vblk(['doctor', `${dir}/none.sock`])).toMatchObject({
      exitCode: 3,
      envelope: { error: { code: 'NO_SUCH_SOCKET' } },
    })
    const [qemu] = qemus
    qemu?.process.kill('SIGSTOP')
    try {
      const { exitCode, envelope } = await vblk(['doctor', qemu?.socket ?? '', '--timeout', '2'])
      expect(exitCode).toBe(4)
      const last = (envelope as unknown as { error: Failure }).error.details.checks.at(-1)
      expect(last).toMatchObject({ name: 'vm', status: 'fail' })
    } finally {
      qemu?.process.kill('SIGCONT')
    }
  })
})
