// SPDX-License-Identifier: GPL-2.0-or-later

import { chmod, chown, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { mayUse } from '../../../../src/migration/postcopy/userfaultfd.ts'

let dir: string
let device: string

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'userfaultfd-'))
  device = join(dir, 'userfaultfd')
  await writeFile(device, '')
  await chown(device, 0, 36)
  await chmod(device, 0o660)
})
afterAll(() => rm(dir, { recursive: true }))

const status = (uid: number, groups: string, capabilities = '0000000000000000') =>
  `Uid:\t${[uid, uid, uid, uid].join('\t')}\nGid:\t64055\t64055\t64055\t64055\nGroups:\t${groups} \nCapEff:\t${capabilities}\n`

test.each([
  ['a process that may trace others', status(64055, '', '0000000000080000'), true],
  ['another one', status(64055, '104 113'), false],
  ["one of the device's group", status(64055, '36 104'), true],
  ['the owner', status(0, ''), true],
])('%s', async (_who, text, may) => {
  expect(await mayUse(text, device)).toBe(may)
})

test('a kernel without the device lets nobody but those who may trace others', async () => {
  expect(await mayUse(status(0, ''), join(dir, 'none'))).toBe(false)
})
