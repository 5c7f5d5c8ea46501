// SPDX-License-Identifier: GPL-2.0-or-later

import { expect, test } from '@jest/globals'
import { parseVhostState } from '../../../src/disk/vhost-state.ts'
import { QmpProtocolError } from '../../../src/qmp/index.ts'

const state = { active: true, reason: '', fds: '23,24', 'running-queues': 2, requests: 2n ** 40n, errors: 0 }

test('reads what the device tells', () => {
  expect(parseVhostState('vm', state)).toEqual({
    active: true,
    reason: '',
    fds: [23, 24],
    runningQueues: 2,
    requests: 2 ** 40,
    errors: 0,
  })
  expect(parseVhostState('vm', { ...state, fds: '' }).fds).toEqual([])
})

test.each([
  ['text', 'x'],
  ['null', null],
  ['a list', []],
  ['no active', { ...state, active: 'yes' }],
  ['no reason', { ...state, reason: 1 }],
  ['descriptors that are none', { ...state, fds: '1;rm' }],
  ['no count', { ...state, requests: '5' }],
])('refuses %s', (_what, value) => {
  expect(() => parseVhostState('vm', value)).toThrow(QmpProtocolError)
})
