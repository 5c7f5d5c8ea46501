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

  test('copy the storage that goes along before memory, and end that before the switchover', () => {
    const copy = { file: '/new.raw', node: 'vblk-d1' }
    const shared = { ...disk, id: 'd0', node: 'vblk-d0' }
    const disks = [
      { name: 'd0', source: shared, properties: {}, destination: shared, preparation: undefined },
      { name: 'd1', source: disk, properties: {}, destination: disk, preparation, copy },
      { name: 'd2', source: disk, properties: {}, destination: disk, preparation: undefined, copy },
    ]
    const commands = planCommands(plan({ disks, bandwidth: 1001 }), 'unix:/tmp/vblk-XXXXXX/migrate.sock')
    const of = (name: string) => commands.filter(({ execute }) => execute === name).map((each) => each.arguments)
    expect(of('nbd-server-start')).toEqual([{ addr: { type: 'unix', data: { path: '/tmp/vblk-XXXXXX/nbd.sock' } } }])
    expect(of('blockdev-mirror')).toMatchObject([
      { 'job-id': 'vblk-copy-1', target: 'vblk-copy-1', speed: 500 },
      { 'job-id': 'vblk-copy-2', target: 'vblk-copy-2', speed: 500 },
    ])
    const at = (name: string) => commands.map(({ execute }) => execute as string).lastIndexOf(name)
    const order = ['device_add', 'nbd-server-start', 'blockdev-mirror', 'migrate', 'block-job-cancel', 'job-dismiss']
    const places = [...order, 'blockdev-del', 'nbd-server-stop', 'blockdev-set-active', 'migrate-continue'].map(at)
    expect(places).toEqual(places.toSorted((a, b) => a - b))
    expect(places).not.toContain(-1)
  })
})
