// SPDX-License-Identifier: GPL-2.0-or-later

import { expect, test } from '@jest/globals'
import { DowntimeClock } from '../../../src/migration/downtime.ts'
import type { Side } from '../../../src/migration/options.ts'
import type { QmpEvent } from '../../../src/qmp/index.ts'

const start = 1_795_364_087_999_000

type Told = [side: Side, event: string, microseconds: number]

/** A clock that has seen events so many microseconds after the start; MIGRATION is told by its status. */
function seen(...told: Told[]): DowntimeClock {
  const clock = new DowntimeClock()
  for (const [side, event, after] of told) clock.see(side, eventOf(event, BigInt(start + after)))
  return clock
}

function eventOf(event: string, at: bigint): QmpEvent {
  const timestamp = { seconds: at / 1_000_000n, microseconds: at % 1_000_000n }
  const isStatus = event !== 'STOP' && event !== 'RESUME'
  return { event: isStatus ? 'MIGRATION' : event, data: isStatus ? { status: event } : {}, timestamp } as QmpEvent
}

const whole: Told[] = [
  ['source', 'STOP', 0],
  ['source', 'pre-switchover', 1500],
  ['source', 'device', 4500],
  ['source', 'completed', 10_500],
  ['destination', 'completed', 11_000],
  ['destination', 'RESUME', 60_000_000],
]

test('counts across a second, to the microsecond', () => {
  expect(seen(['source', 'STOP', 0], ['destination', 'RESUME', 1250]).downtime?.totalMs).toBe(1.25)
})

test('tells what the time went into', () => {
  const clock = seen(...whole)
  expect(clock.downtime).toEqual({ totalMs: 60_000, phases: null })
  clock.verified()
  const phases = clock.downtime?.phases
  expect(phases).toMatchObject({ drain: 1.5, check: 3, save: 6, load: 0.5 })
  const sum = Object.values(phases ?? {}).reduce((all, ms) => all + ms, 0)
  expect(sum).toBeCloseTo(60_000, 6)
})

test('a destination that was ready before the source had ended, took no time of its own', () => {
  const clock = seen(...whole, ['destination', 'completed', 9000])
  clock.verified()
  expect(clock.downtime?.phases).toMatchObject({ save: 6, load: 0 })
})

test('in postcopy the state is there long before the end', () => {
  const early = whole.map(([side, event, at]): Told => [side, event === 'completed' ? 'postcopy-active' : event, at])
  const clock = seen(...early, ['destination', 'completed', 90_000_000], ['source', 'completed', 90_000_000])
  clock.verified()
  expect(clock.downtime?.phases).toMatchObject({ drain: 1.5, check: 3, save: 6, load: 0.5 })
})

test('the last migration counts, and what the other side announces does not', () => {
  const clock = seen(...whole, ['source', 'RESUME', 61_000_000], ['destination', 'STOP', 62_000_000])
  expect(clock.downtime?.totalMs).toBe(60_000)
  expect(seen(...whole, ['source', 'STOP', 59_000_000]).downtime?.totalMs).toBe(1000)
})

test('knows nothing without two events that have a time', () => {
  const noTime = { event: 'STOP', data: {}, timestamp: { seconds: -1, microseconds: -1 } } as QmpEvent
  expect(new DowntimeClock().downtime).toBeNull()
  expect(seen(['source', 'STOP', 0]).downtime).toBeNull()
  expect(seen(['destination', 'RESUME', 0]).downtime).toBeNull()
  const clock = seen(...whole)
  clock.see('source', noTime)
  expect(clock.downtime).toBeNull()
})
