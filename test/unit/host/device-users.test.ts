// SPDX-License-Identifier: GPL-2.0-or-later
import { expect, test } from '@jest/globals'
import { parseFdinfo } from '../../../src/host/device-users.ts'

test('reads the lines that the module adds to fdinfo', () => {
  const text = [
    'pos:\t0',
    'flags:\t0100002',
    'vhost-blk-abi:\t1',
    'vhost-blk-queues:\t4',
    'vhost-blk-running:\t3',
    'vhost-blk-reads:\t10',
    'vhost-blk-writes:\t20',
    'vhost-blk-flushes:\t3',
    'vhost-blk-others:\t1',
    'vhost-blk-errors:\t2',
    'vhost-blk-serial:\tdisk:\\040one',
    '',
  ].join('\n')
  expect(parseFdinfo(12, text)).toEqual({ fd: 12, serial: 'disk:\\040one', runningQueues: 3, requests: 34, errors: 2 })
})

test('another descriptor counts as nothing', () => {
  expect(parseFdinfo(3, 'pos:\t0\n')).toEqual({ fd: 3, serial: '', runningQueues: 0, requests: 0, errors: 0 })
})
