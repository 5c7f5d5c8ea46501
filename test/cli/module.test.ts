// SPDX-License-Identifier: GPL-2.0-or-later
// doctor and the module commands where the module really loads. The tests build on one another: the module is absent
// from the kernel at first, loaded in the middle, and gone at the end.
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals'
import type { Check } from '../../src/host/check.ts'
import type { LoadResult } from '../../src/host/module-load.ts'
import type { ModuleStatus } from '../../src/host/module-status.ts'
import { runbookScript } from '../integration/runbook.ts'
import { Guest } from '../lab/guest.ts'
import { Lab } from '../lab/lab.ts'
import { tryVblk, vblk } from '../lab/vblk.ts'

jest.setTimeout(120_000)

let lab: Lab
let kernel: string

beforeAll(async () => {
  lab = await Lab.start()
  kernel = (await lab.check(['uname', '-r'])).trim()
  // A warm start may have vhost loaded; what loading brings along is part of the tests.
  await lab.exec(['modprobe', '-r', 'vhost_blk', 'vhost_net', 'vhost'])
}, 300_000)

afterAll(() => lab?.stop())
afterEach(async () => expect(await lab.kernelWarnings()).toEqual([]))

const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', 'vblk']
const isLoaded = async (name: string) => (await lab.exec(['test', '-d', `/sys/module/${name}`])).exitCode === 0
const status = () => vblk<ModuleStatus>(lab, ['module', 'status'])
const installed = () => `/lib/modules/${kernel}/updates/vhost_blk.ko`

describe('not loaded', () => {
  test('doctor fails on that alone', async () => {
    const { exitCode, error } = await tryVblk(lab, ['doctor'])
    expect(exitCode).toBe(4)
    expect(error).toMatchObject({ code: 'CHECK_FAILED', hint: 'begin with: vblk module load' })
    const checks = error?.details?.checks as Check[]
    const failed = checks.filter((check) => check.status !== 'ok')
    expect(failed.map(({ name, status: found, fix }) => [name, found, fix])).toEqual([
      ['module-loaded', 'fail', 'vblk module load'],
      ['module-abi', 'fail', 'vblk module load'],
      ['device-node', 'fail', 'vblk module load'],
    ])
  })

  test('status shows the installed module', async () => {
    expect(await status()).toMatchObject({
      kernel,
      source: '/opt/vblk/kmod',
      file: { path: installed(), installed: true, matches: true, kernel, name: 'vhost_blk' },
      loaded: null,
      users: [],
    })
  })

  test('only root loads', async () => {
    expect(await lab.exec([...nobody, 'module', 'load'])).toEqual({
      exitCode: 4,
      stdout: '',
      stderr: 'Error: only root can load kernel modules\nHint: sudo vblk module load\n',
    })
  })
})

describe('a module that the kernel does not take', () => {
  test('another module by our name', async () => {
    const vhost = `/lib/modules/${kernel}/kernel/drivers/vhost/vhost.ko.xz`
    await lab.check(['sh', '-euc', `mkdir -p /tmp/other && cp ${vhost} /tmp/other/vhost_blk.ko.xz`])
    const { exitCode, error } = await tryVblk(lab, ['module', 'load', '--build-dir', '/tmp/other'])
    expect(exitCode).toBe(4)
    expect(error?.message).toBe('/tmp/other/vhost_blk.ko.xz is module vhost, not vhost_blk')
  })

  test('a symbol that vhost has not: the reason is shown, and vhost is unloaded again', async () => {
    const edit = 'mkdir -p /tmp/bad && LC_ALL=C sed s/vhost_dev_init/vhost_dev_inyt/g "$1" >/tmp/bad/vhost_blk.ko'
    await lab.check(['sh', '-euc', edit, 'sh', installed()])
    expect(await isLoaded('vhost')).toBe(false)
    const { exitCode, error } = await tryVblk(lab, ['module', 'load', '--build-dir', '/tmp/bad'])
    expect(exitCode).toBe(4)
    expect(error).toMatchObject({
      code: 'MODULE_NOT_LOADED',
      message: expect.stringMatching(/^\/tmp\/bad\/vhost_blk\.ko was not loaded: .*(Unknown symbol|Invalid)/),
      hint: 'the kernel says why: dmesg | tail',
    })
    expect([await isLoaded('vhost_blk'), await isLoaded('vhost')]).toEqual([false, false])
  })
})

describe('loaded', () => {
  test('load brings what the module needs, and is done already the second time', async () => {
    expect(await vblk(lab, ['module', 'load', '--dry-run'])).toMatchObject({
      changed: false,
      module: null,
      path: installed(),
      steps: ['modprobe vhost_blk'],
    })
    expect(await isLoaded('vhost_blk')).toBe(false)
    const first = await vblk<LoadResult>(lab, ['module', 'load'])
    expect(first).toMatchObject({ changed: true, path: installed(), module: { refcount: 0 } })
    expect(await isLoaded('vhost')).toBe(true)
    expect(await vblk(lab, ['module', 'load'])).toMatchObject({ changed: false, path: null })
  })

  test('doctor is content, and status shows the ABI', async () => {
    const { checks } = await vblk<{ checks: Check[] }>(lab, ['doctor'])
    expect(checks.filter((check) => check.status !== 'ok')).toEqual([])
    expect(checks.find(({ name }) => name === 'module-abi')?.message).toBe('version 2, up to 64 queues')
    expect((await status()).loaded).toMatchObject({ abiVersion: 2, refcount: 0 })
  })

  test('another user may not open the device, and doctor says so', async () => {
    const { stdout, exitCode } = await lab.exec([...nobody, 'doctor'])
    expect(exitCode).toBe(4)
    expect(stdout).toMatch(
      /fail {2}module-abi +\/dev\/vhost-blk does not answer: EACCES: open '\/dev\/vhost-blk'\n +mend it: run vblk as root/,
    )
  })

  test('a device open to everybody is a failure', async () => {
    await lab.check(['chmod', '666', '/dev/vhost-blk'])
    const { error } = await tryVblk(lab, ['doctor'])
    expect(error?.message).toMatch(/^1 of \d+ checks failed: device-node$/)
    expect(error?.hint).toBe('begin with: chmod o= /dev/vhost-blk')
    expect(await vblk(lab, ['doctor', '--fix'])).toMatchObject({
      fixes: [{ command: 'chmod o= /dev/vhost-blk', exitCode: 0 }],
    })
    expect((await lab.check(['stat', '-c', '%a', '/dev/vhost-blk'])).trim()).toMatch(/0$/)
  })
})

describe('in use', () => {
  let pid: number

  test('status names who holds the device', async () => {
    const hold = 'sleep 600 3<>/dev/vhost-blk >/dev/null 2>&1 & echo $!'
    pid = Number(await lab.check(['sh', '-c', hold]))
    const { loaded, users } = await status()
    expect(loaded).toMatchObject({ refcount: 1 })
    expect(users).toEqual([
      { pid, command: 'sleep', disks: [{ fd: 3, serial: '', runningQueues: 0, requests: 0, errors: 0 }] },
    ])
  })

  test('unload is refused with 9, and names the process', async () => {
    const { exitCode, error } = await tryVblk(lab, ['module', 'unload'])
    expect(exitCode).toBe(9)
    expect(error).toMatchObject({
      code: 'MODULE_IN_USE',
      message: `vhost_blk is in use by sleep (pid ${pid})`,
      details: { pids: [pid], refcount: 1 },
    })
    expect(await isLoaded('vhost_blk')).toBe(true)
  })

  test('after its end the module goes, and only root may say so', async () => {
    await lab.check(['sh', '-c', `kill ${pid}; while [ -d /proc/${pid} ]; do sleep 0.1; done`])
    expect((await lab.exec([...nobody, 'module', 'unload'])).stderr).toMatch(
      /^Error: only root can unload kernel modules\n/,
    )
    expect(await vblk(lab, ['module', 'unload', '--dry-run'])).toMatchObject({ steps: ['rmmod vhost_blk'] })
    expect(await isLoaded('vhost_blk')).toBe(true)
    expect(await vblk(lab, ['module', 'unload'])).toMatchObject({ changed: true })
    expect(await vblk(lab, ['module', 'unload'])).toMatchObject({ changed: false })
    expect(await isLoaded('vhost_blk')).toBe(false)
    expect((await lab.exec(['test', '-e', '/dev/vhost-blk'])).exitCode).toBe(1)
  })
})

test('doctor --fix loads the module, after it has shown that it will', async () => {
  const { error } = await tryVblk(lab, ['doctor', '--fix', '--dry-run'])
  expect(error?.details?.fixes).toEqual([{ command: 'vblk module load' }])
  expect(await isLoaded('vhost_blk')).toBe(false)
  const { exitCode, stdout, stderr } = await lab.exec(['vblk', 'doctor', '--fix'])
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '- running: vblk module load\n' })
  expect(stdout).not.toMatch(/^fail/m)
  expect(await vblk(lab, ['doctor', '--fix'])).toMatchObject({ fixes: [] })
  await vblk(lab, ['module', 'unload'])
})

describe('another module', () => {
  // The same code under another hash, as other sources have; and one that asks for a symbol that no kernel has.
  const edit = (dir: string, ...expressions: string[]) =>
    lab.check([
      ...['sh', '-euc', 'dir=$1 from=$2; shift 2; mkdir -p "$dir"; LC_ALL=C sed "$@" <"$from" >"$dir/vhost_blk.ko"'],
      ...['sh', dir, installed(), ...expressions.flatMap((expression) => ['-e', expression])],
    ])
  const next = 's/srcversion=......./srcversion=NEXTONE/'
  const loadedSource = async () => (await lab.check(['cat', '/sys/module/vhost_blk/srcversion'])).trim()

  beforeAll(async () => {
    await edit('/tmp/next', next)
    await edit('/tmp/broken', 's/srcversion=......./srcversion=BADONE!/', 's/vhost_dev_init/vhost_dev_inyt/g')
  })

  test('is not installed where another one hides it, and what was there comes back', async () => {
    const folder = `/lib/modules/${kernel}`
    const files = () => lab.check(['sh', '-c', `cd ${folder} && find updates extra -type f | sort | xargs sha256sum`])
    await lab.check(['sh', '-euc', `mkdir -p ${folder}/extra && cp ${installed()} ${folder}/extra/`])
    await lab.check(['sh', '-euc', `echo "override vhost_blk * extra" >/etc/depmod.d/hides.conf; depmod`])
    const before = await files()
    const { exitCode, error } = await tryVblk(lab, ['module', 'install', '--build-dir', '/tmp/next'])
    expect({ exitCode, error }).toMatchObject({ exitCode: 4, error: { code: 'MODULE_NOT_INSTALLED' } })
    expect(error?.message).toContain(`modprobe finds ${folder}/extra/vhost_blk.ko first`)
    expect(await files()).toBe(before)
    await lab.check(['sh', '-euc', `rm -r ${folder}/extra /etc/depmod.d/hides.conf; depmod`])
  })

  test('is signed once, by a key that is made for it', async () => {
    await lab.check(['sh', '-euc', 'mkdir -p /tmp/signed && cp /tmp/next/vhost_blk.ko /tmp/signed/'])
    const sign = ['module', 'sign', '--build-dir', '/tmp/signed', '--key-dir', '/tmp/keys']
    expect(await vblk(lab, sign)).toMatchObject({
      changed: true,
      signer: expect.stringContaining('vhost-blk module of'),
    })
    expect((await lab.check(['stat', '-c', '%a', '/tmp/keys'])).trim()).toBe('700')
    expect(await vblk(lab, sign)).toMatchObject({ changed: false })
  })

  test('takes the place of the loaded one under a running VM, as the runbook says; one that does not load is taken back', async () => {
    await lab.check(['modprobe', 'vhost_blk'])
    const old = await loadedSource()
    const image = '/root/upgrade.raw'
    await lab.check(['truncate', '-s', '16M', image])
    const guest = await Guest.start(lab, { name: 'upgrade' })
    const isActive = () => guest.ask('qom-get', { path: '/machine/peripheral/d', property: 'vhost-active' })
    try {
      await guest.up()
      await vblk(lab, ['attach', guest.qmp, image, '--id', 'd'])
      await guest.awaitDisk('vda')
      // QEMU keeps what it was passed open even while no disk uses it.
      const passed = '/root/passed.raw'
      await lab.check(['truncate', '-s', '16M', passed])
      await vblk(lab, ['attach', guest.qmp, passed, '--id', 'e', '--pass-fd'])
      await guest.awaitDisk('vdb')
      // Leaves the one emulated CPU to vblk most of the time.
      const load = `i=0; while [ ! -e /run/stop ]; do
  i=$((i + 1)); seek=$((i % 1024)); dd if=/dev/urandom of=/run/new bs=4k count=1 2>/dev/null
  dd if=/run/new of=/dev/vda bs=4k count=1 seek=$seek oflag=direct 2>/dev/null || exit 1
  dd if=/dev/vda of=/run/old bs=4k count=1 skip=$seek iflag=direct 2>/dev/null || exit 1
  cmp /run/new /run/old || exit 1; sleep 0.5
done >/run/load.log 2>&1; echo "ended well after $i" >>/run/load.log`
      await guest.check(['sh', '-c', 'setsid sh -c "$1" </dev/null >/dev/null 2>&1 &', 'sh', load])

      const unknown = await tryVblk(lab, ['module', 'upgrade', '--build-dir', '/tmp/next'])
      expect(unknown).toMatchObject({ exitCode: 9, error: { code: 'MODULE_IN_USE' } })
      expect(await loadedSource()).toBe(old)

      const runbook = runbookScript('replace-the-module', { VM: guest.qmp, BUILD: '/tmp/next' })
      const said = await lab.check(['sh', '-c', runbook], { timeoutMs: 300_000 })
      expect(said).toMatch(/^rmmod vhost_blk\ninsmod \/tmp\/next\/vhost_blk\.ko$/m)
      expect(said).toContain(`loaded /tmp/next/vhost_blk.ko\n${guest.qmp} d: kernel\n${guest.qmp} e: kernel\n`)
      expect(said).toContain(`${installed()} is installed\n`)
      expect(await loadedSource()).toMatch(/^NEXTONE/)
      expect(await lab.check(['modinfo', '-F', 'srcversion', 'vhost_blk'])).toMatch(/^NEXTONE/)
      expect(await isActive()).toBe(true)

      const failed = await tryVblk(lab, ['module', 'upgrade', guest.qmp, '--build-dir', '/tmp/broken'])
      expect(failed).toMatchObject({ exitCode: 7, error: { code: 'MODULE_NOT_UPGRADED' } })
      expect(failed.error?.message).toMatch(/was not loaded: .*(Unknown symbol|Invalid).*; all is as before$/)
      expect(await loadedSource()).toMatch(/^NEXTONE/)
      expect(await isActive()).toBe(true)

      const ended =
        'touch /run/stop; for i in $(seq 1000); do [ -s /run/load.log ] && break; sleep 0.1; done; cat /run/load.log'
      expect(await guest.check(['sh', '-c', ended], { timeoutMs: 120_000 })).toMatch(/^ended well after [1-9]/)
    } finally {
      await guest.kill()
    }
    await lab.check(['rmmod', 'vhost_blk'])
  }, 900_000)
})

// The compiler takes minutes there.
const long = process.env.VBLK_LONG ? test : test.skip
long(
  'the runbook for a host finds nothing to mend',
  async () => {
    await lab.check(['modprobe', 'vhost_blk'])
    const said = await lab.check(['sh', '-c', runbookScript('check-a-host', {})], { timeoutMs: 300_000 })
    expect(said).toMatch(/^-plugin file=.*vhost-blk\.so$/m)
    expect(said).not.toMatch(/^fail/m)
    await lab.check(['rmmod', 'vhost_blk'])
  },
  400_000,
)

long(
  'a module built on the host itself is loaded from its folder',
  async () => {
    const built = await vblk<{ path: string }>(lab, ['module', 'build'], 900_000)
    const dir = `/var/lib/vblk/kmod/${kernel}`
    expect(built).toMatchObject({ path: `${dir}/vhost_blk.ko`, kernel, matches: true, installed: false })
    expect(await vblk(lab, ['module', 'load', '--build-dir', dir])).toMatchObject({ changed: true, path: built.path })
    expect((await status()).loaded).toMatchObject({ abiVersion: 2 })
    await vblk(lab, ['module', 'unload'])
  },
  900_000,
)
