// SPDX-License-Identifier: GPL-2.0-or-later

import { expect, test } from '@jest/globals'
import { fail, ok, warn } from '../../../src/host/check.ts'
import { fixCommands } from '../../../src/host/fix.ts'

test('what failed is mended by its command, each once; advice is left to a person, and a warning alone', () => {
  const checks = [
    ok('kernel', '6.12'),
    warn('btf', 'missing', 'vblk module build'),
    fail('compiler', 'missing', 'apt-get install gcc make'),
    fail('module-loaded', 'no', 'vblk module load'),
    fail('module-abi', 'unknown', 'vblk module load'),
    fail('kvm', 'none', 'boot a kernel with KVM'),
    fail('x', 'y', 'vblk'),
  ]
  expect(fixCommands(checks)).toEqual(['apt-get install gcc make', 'vblk module load'])
})
