// SPDX-License-Identifier: GPL-2.0-or-later

import { closeSync, constants, openSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { expect, test } from '@jest/globals'
import { allows, readFdFlags } from '../../../src/host/fd-flags.ts'

test.each<[what: string, flags: number, reading: boolean, writing: boolean]>([
  ['O_RDONLY', constants.O_RDONLY | constants.O_DIRECT, true, false],
  ['O_RDWR', constants.O_RDWR, true, true],
  ['O_WRONLY', constants.O_WRONLY, false, false],
])('%s allows what it was opened for', (_, flags, reading, writing) => {
  expect([allows(flags, true), allows(flags, false)]).toEqual([reading, writing])
})

test('a descriptor opened with O_PATH, as the kernel tells its flags, allows nothing', async () => {
  const fd = openSync(tmpdir(), 0o10000000)
  const flags = await readFdFlags('self', fd)
  closeSync(fd)
  expect([allows(flags, true), allows(flags, false)]).toEqual([false, false])
})
