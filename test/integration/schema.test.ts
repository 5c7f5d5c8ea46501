// SPDX-License-Identifier: GPL-2.0-or-later

import { readFile } from 'node:fs/promises'
import { expect, test } from '@jest/globals'
import { generate, readSchema, schemaFile } from '../../script/qapi.ts'

test("the client's types are those of QEMU's own schema; else run: node --import tsx script/qapi.ts", async () => {
  expect(await readFile(schemaFile, 'utf8')).toBe(generate(readSchema()))
}, 60_000)
