// SPDX-License-Identifier: GPL-2.0-or-later
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { checkProcess } from '../../../src/vm/check-process.ts'

let dir: string
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vblk-check-'))
  mkdirSync(join(dir, '7/attr'), { recursive: true })
  mkdirSync(join(dir, '7/fd'))
  put('device', '')
  chmodSync(join(dir, 'device'), 0o660)
  own({ uid: 64055, gid: 64055, groups: [] })
  put('7/cgroup', '0::/user.slice\n')
  put('7/attr/current', 'unconfined\n')
  put(
    '7/limits',
    'Limit  Soft  Hard  Units\nMax open files            1024                 524288               files     \n',
  )
})
afterEach(() => rmSync(dir, { recursive: true, force: true }))

const put = (name: string, text: string) => writeFileSync(join(dir, name), text)

const own = ({ uid, gid, groups }: { uid: number; gid: number; groups: number[] }) => {
  const line = (name: string, id: number) => `${name}:\t1\t1\t1\t${id}\n`
  put('7/status', `Name:\tqemu\n${line('Uid', uid)}${line('Gid', gid)}Groups:\t${groups.join(' ')} \n`)
}

async function check(name: string) {
  const at = (file: string) => join(dir, file)
  const where = { proc: dir, device: at('device'), qemuConf: at('qemu.conf'), selinuxEnforce: at('enforce') }
  return (await checkProcess('web', 7, where)).find((found) => found.name === name)
}

test.each([
  ['root', { uid: 0, gid: 0, groups: [] }, 'ok'],
  ['a member of its group', { uid: 64055, gid: 64055, groups: [44, 0] }, 'ok'],
  ['its own group', { uid: 64055, gid: 0, groups: [] }, 'ok'],
  ['somebody else', { uid: 64055, gid: 64055, groups: [44] }, 'warn'],
])('the device is for root and its group: %s', async (_who, ids, status) => {
  own(ids)
  expect(await check('vm-user')).toMatchObject({ status })
})

test('a device that is open to nobody is open to root alone', async () => {
  chmodSync(join(dir, 'device'), 0o600)
  own({ uid: 64055, gid: 0, groups: [] })
  expect(await check('vm-user')).toMatchObject({ status: 'warn', fix: expect.stringContaining('--pass-fd') })
})

test.each([
  ['no list of its own', '# cgroup_device_acl = [ "DEVICE" ]\n', 'warn'],
  ['a list without it', 'cgroup_device_acl = [\n    "/dev/null", "/dev/kvm"\n]\n', 'warn'],
  ['a list with it', 'cgroup_device_acl = [\n    "/dev/null",\n    "DEVICE"\n]\n', 'ok'],
  ['no device policy', 'cgroup_controllers = [ "cpu", "memory" ]\n', 'ok'],
])("libvirt's device policy: %s", async (_what, conf, status) => {
  put('7/cgroup', '0::/machine.slice/machine-qemu\\x2d1\\x2dweb.scope/libvirt/emulator\n')
  put('qemu.conf', conf.replace('DEVICE', join(dir, 'device')))
  expect(await check('vm-cgroup')).toMatchObject({ status })
})

test.each([
  ['unconfined\n', '0', 'ok', 'neither'],
  ['libvirt-0a1b (enforce)\n', '0', 'warn', 'AppArmor confines it (libvirt-0a1b)'],
  ['libvirt-0a1b (complain)\n', '0', 'ok', 'neither'],
  ['system_u:system_r:svirt_t:s0:c1,c2\0', '1', 'warn', 'SELinux confines it (system_u:system_r:svirt_t:s0:c1,c2)'],
  ['system_u:system_r:svirt_t:s0:c1,c2\0', '0', 'ok', 'neither'],
])('the label %j with SELinux enforcing=%s', async (label, enforce, status, message) => {
  put('7/attr/current', label)
  put('enforce', enforce)
  expect(await check('vm-confinement')).toMatchObject({ status, message: expect.stringContaining(message) })
})

test('a process that is close to its limit of files', async () => {
  expect(await check('vm-files')).toMatchObject({ status: 'ok' })
  for (let fd = 0; fd < 970; fd++) put(`7/fd/${fd}`, '')
  expect(await check('vm-files')).toEqual({
    name: 'vm-files',
    status: 'warn',
    message: 'web: its QEMU has 970 files open, of at most 1024',
    fix: 'prlimit --pid 7 --nofile=4096',
  })
})

test('a process that may not be looked at is not said to be well', async () => {
  rmSync(join(dir, '7'), { recursive: true })
  for (const name of ['vm-user', 'vm-cgroup', 'vm-files']) expect(await check(name)).toMatchObject({ status: 'warn' })
})
