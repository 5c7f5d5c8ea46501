// SPDX-License-Identifier: GPL-2.0-or-later

import { readdir, stat, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { expect, test } from '@jest/globals'
import { Channel } from '../../../src/migration/channel.ts'

const socketOf = (channel: Channel) => channel.uri.replace(/^unix:/, '')

test('a channel is in a folder that only its QEMU can enter, and leaves nothing', async () => {
  const owner = { uid: 12345, gid: 54321 }
  const channel = await Channel.create(owner)
  const folder = dirname(socketOf(channel))
  const stats = await stat(folder)
  expect(stats.mode & 0o777).toBe(0o700)
  if (process.getuid?.() === 0) expect({ uid: stats.uid, gid: stats.gid }).toEqual(owner)
  await writeFile(socketOf(channel), '')
  await channel.remove()
  await expect(readdir(folder)).rejects.toThrow('ENOENT')
})

test('without a place for it the error says what to set', async () => {
  await expect(Channel.create(undefined, '/nonexistent')).rejects.toMatchObject({
    exitCode: 4,
    hint: 'set TMPDIR to a folder that vblk and both QEMUs can use',
  })
})
