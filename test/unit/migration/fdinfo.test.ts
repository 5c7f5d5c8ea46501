// SPDX-License-Identifier: GPL-2.0-or-later

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'
import { parseFdinfo, readFdinfo } from '../../../src/migration/fdinfo.ts'

// As the kernel shows it: its own lines first, then the module's.
const text = `pos:\t0
flags:\t02100002
mnt_id:\t26
ino:\t1055
vhost-blk-abi:\t1
vhost-blk-queues:\t2
vhost-blk-running:\t2
vhost-blk-inflight:\t5
vhost-blk-reads:\t100
vhost-blk-serial:\tvhost-blk-running:\\0117
`

test('reads the figures, and takes none from a serial that looks like them', () => {
  expect(parseFdinfo(text)).toEqual({ running: 2, inflight: 5 })
})

test.each([
  ['of another file', 'pos:\t0\nflags:\t02\n'],
  ['without one of the figures', 'vhost-blk-running:\t0\n'],
  ['with no number', 'vhost-blk-running:\tx\nvhost-blk-inflight:\t0\n'],
])('knows nothing of a text %s', (_, other) => {
  expect(parseFdinfo(other)).toBeUndefined()
})

test('says why it cannot read them', async () => {
  const proc = await mkdtemp(join(tmpdir(), 'vblk-proc-'))
  try {
    await mkdir(join(proc, '7/fdinfo'), { recursive: true })
    await writeFile(join(proc, '7/fdinfo/9'), text)
    await writeFile(join(proc, '7/fdinfo/1'), 'pos:\t0\n')
    expect(await readFdinfo(7, 9, proc)).toEqual({ running: 2, inflight: 5 })
    expect(await readFdinfo(7, 1, proc)).toEqual({ unknown: `${proc}/7/fdinfo/1 is not of a /dev/vhost-blk` })
    expect(await readFdinfo(7, 2, proc)).toEqual({ unknown: expect.stringContaining('ENOENT') })
  } finally {
    await rm(proc, { recursive: true })
  }
})

test("reads the real /proc: this process's standard input is no vhost-blk", async () => {
  expect(await readFdinfo(process.pid, 0)).toEqual({ unknown: expect.stringContaining('is not of a /dev/vhost-blk') })
})
