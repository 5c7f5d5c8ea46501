// SPDX-License-Identifier: GPL-2.0-or-later

import { describe, expect, test } from '@jest/globals'
import { type Plan, planCommands } from '../../../src/migration/plan.ts'
import { planPreparation } from '../../../src/migration/preparation.ts'
import { capabilityChanges } from '../../../src/migration/settings.ts'
import { diskInfo, diskNodes } from './disk.ts'

const disk = diskInfo()
const preparation = planPreparation({ disk, properties: {} }, diskNodes())
const changes = [
  capabilityChanges('source', [{ capability: 'events', state: false }], ['events']),
  capabilityChanges('destination', [{ capability: 'events', state: false }], ['events']),
]
const plan = (parts: Partial<Plan> = {}): Plan => ({
  wasRunning: true,
  keepSource: false,
  disks: [{ name: 'd1', source: disk, properties: {}, destination: disk, preparation }],
  settings: { apply: changes.flatMap(({ apply }) => apply), restore: changes.flatMap(({ restore }) => restore) },
  ...parts,
})
const names = (given: Plan) => planCommands(given, 'unix:/m').map(({ side, execute }) => `${side} ${execute}`)

describe('the commands of a migration', () => {
  test('make the destination ready, move, let it run, and end the source last', () => {
    expect(names(plan())).toEqual([
      'destination blockdev-add',
      'destination device_add',
      'source migrate-set-capabilities',
      'destination migrate-set-capabilities',
      'destination stop',
      'destination migrate-incoming',
      'source migrate',
      'source migrate-continue',
      'destination cont',
      'destination migrate-set-capabilities',
      'source quit',
    ])
  })

  test('neither run a VM that stood still nor end a source that is to be kept', () => {
    expect(names(plan({ wasRunning: false, keepSource: true, disks: [] }))).toEqual([
      'source migrate-set-capabilities',
      'destination migrate-set-capabilities',
      'destination stop',
      'destination migrate-incoming',
      'source migrate',
      'source migrate-continue',
      'destination migrate-set-capabilities',
      'source migrate-set-capabilities',
    ])
  })
})
