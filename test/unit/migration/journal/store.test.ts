// SPDX-License-Identifier: GPL-2.0-or-later

import { chmod, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { formatRecord } from '../../../../src/migration/journal/record.ts'
import { FileStore } from '../../../../src/migration/journal/store.ts'
import { migrationRecord } from './record.ts'

let dir: string
let store: FileStore
const record = migrationRecord()
const file = () => join(dir, `${record.id}.json`)

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'vblk-journal-'))
  store = new FileStore(dir)
})
afterEach(() => rm(dir, { recursive: true }))

test('a record is read as it was written, and replaced as a whole', async () => {
  await store.write(record)
  expect(await store.list()).toEqual([record])
  await store.write({ ...record, phase: 'copy' })
  expect(await store.list()).toEqual([{ ...record, phase: 'copy' }])
  expect(await readdir(dir)).toEqual([`${record.id}.json`])
})

test('there are none where nothing was written', async () => {
  expect(await new FileStore(join(dir, 'nowhere')).list()).toEqual([])
})

test('only the newest that have ended are kept, and all that are open', async () => {
  const few = new FileStore(dir, 2)
  const make = async (index: number, phase: 'done' | 'rolled-back' | 'commit') => {
    const id = record.id.replace(/^./, String(index))
    await few.write({ ...record, id, phase, entered: [{ phase: 'prepare', at: `2026-01-0${index}T00:00:00.000Z` }] })
    return id
  }
  const open = await make(1, 'commit')
  await make(2, 'done')
  const kept = [await make(3, 'rolled-back'), await make(4, 'done')]
  await few.prune()
  expect((await few.list()).map(({ id }) => id)).toEqual([open, ...kept])
})

describe('a record is not trusted that', () => {
  const expectRefusal = async (why: RegExp) =>
    expect(store.list()).rejects.toMatchObject({
      code: 'JOURNAL_UNTRUSTED',
      exitCode: 8,
      message: expect.stringMatching(why),
    })

  test('others can write', async () => {
    await store.write(record)
    await chmod(file(), 0o666)
    await expectRefusal(/others can write it$/)
  })

  test('lies in a folder that others can write', async () => {
    await store.write(record)
    await chmod(dir, 0o777)
    await expectRefusal(/others can write it$/)
  })

  test('is a link', async () => {
    await writeFile(join(dir, 'real'), formatRecord(record), { mode: 0o600 })
    await symlink('real', file())
    await expectRefusal(/ELOOP/)
  })

  test('has the name of another', async () => {
    await writeFile(join(dir, 'other.json'), formatRecord(record), { mode: 0o600 })
    await expectRefusal(/it is the record of 0000/)
  })

  test.each([
    ['is cut off', (text: string) => text.slice(0, -10), /not JSON/],
    ['is of another format', (text: string) => text.replace('"format":1', '"format":2'), /format: /],
    ['has an unknown phase', (text: string) => text.replace('"phase":"prepare"', '"phase":"later"'), /phase: /],
    ['has one key more', (text: string) => text.replace('"format":1', '"format":1,"more":1'), /the whole: /],
    [
      'would send another command',
      (text: string) => text.replace('migrate-set-parameters', 'human-monitor-command'),
      /restore.0/,
    ],
  ])('%s', async (_, spoil, why) => {
    await writeFile(file(), spoil(formatRecord(record)), { mode: 0o600 })
    await expectRefusal(why)
  })
})

test('a record that could not be read again is not written', async () => {
  await expect(store.write({ ...record, channel: 'x'.repeat(5000) })).rejects.toMatchObject({
    code: 'JOURNAL_NOT_WRITTEN',
  })
  expect(await readdir(dir)).toEqual([])
})
