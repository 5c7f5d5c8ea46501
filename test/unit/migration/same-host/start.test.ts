// SPDX-License-Identifier: GPL-2.0-or-later
import { expect, test } from '@jest/globals'
import { asUser } from '../../../../src/migration/same-host/start.ts'

const uid = process.geteuid?.() ?? 0
const running = {
  pid: 7,
  program: '/q',
  argv: [],
  cwd: '/',
  env: { LD_PRELOAD: '/evil.so' },
  uid,
  gid: 5,
  groups: [5, 36],
}

test("a QEMU of vblk's own user is started as it is, with nothing of the old one's environment", () => {
  expect(asUser(running, '/usr/bin/q', ['-S'])).toEqual({
    ...{ file: '/usr/bin/q', args: ['-S'], shown: '/usr/bin/q', cwd: '/', isQemu: true },
  })
})

test("another user's has that user's rights before its own environment counts", () => {
  const { file, args } = asUser({ ...running, uid: uid + 1 }, '/usr/bin/q', ['-S'])
  expect([file, ...args]).toEqual([
    ...['setpriv', `--reuid=${uid + 1}`, '--regid=5', '--groups=5,36', '--inh-caps=-all', '--'],
    ...['env', '-i', 'LD_PRELOAD=/evil.so', '/usr/bin/q', '-S'],
  ])
})
