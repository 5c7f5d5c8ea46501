// SPDX-License-Identifier: GPL-2.0-or-later

import type { Json, MigrationCapability, MigrationCapabilityStatus, WaitOptions } from '../qmp/index.ts'
import type { Vm } from '../vm/vm.ts'
import { command, type SideCommand } from './commands.ts'
import type { Side, Sides, Tuning } from './options.ts'

/** Capabilities that we set ourselves, so that it doesn't matter how they stand (qapi/migration.json, MigrationCapability). */
function capabilitiesFor(side: Side, { autoConverge, multifdChannels, postcopy }: Tuning): MigrationCapability[] {
  const capabilities: MigrationCapability[] = ['events']
  if (side === 'source') capabilities.push('pause-before-switchover')
  if (side === 'source' && autoConverge === true) capabilities.push('auto-converge')
  if (multifdChannels !== undefined) capabilities.push('multifd')
  if (postcopy === true) capabilities.push('postcopy-ram')
  return capabilities
}

/** Both sides must agree on the channels; the rest is the sender's. */
function parametersFor(side: Side, tuning: Tuning): Record<string, Json> {
  const { downtimeLimitMs, bandwidth, multifdChannels, multifdCompression, postcopy } = tuning
  const wanted = {
    ...(side === 'source' && { 'downtime-limit': downtimeLimitMs, 'max-bandwidth': bandwidth }),
    ...(side === 'source' && postcopy === true && { 'max-postcopy-bandwidth': bandwidth }),
    'multifd-channels': multifdChannels,
    'multifd-compression': multifdCompression,
  }
  return Object.fromEntries(
    Object.entries(wanted).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  )
}

/** What a migration changes in QEMU's migration settings, and what puts it back. */
export interface Settings {
  apply: SideCommand[]
  restore: SideCommand[]
}

/** Reads both sides' settings, and plans what has to change. Throws what QmpClient.execute throws. */
export async function planSettings(sides: Sides, tuning: Tuning, options: WaitOptions): Promise<Settings> {
  const settings: Settings[] = []
  for (const side of ['source', 'destination'] as const) {
    const { qmp } = sides[side]
    const capabilities = await qmp.execute('query-migrate-capabilities', {}, options)
    const parameters = await qmp.execute('query-migrate-parameters', {}, options)
    settings.push(
      capabilityChanges(side, capabilities, capabilitiesFor(side, tuning)),
      parameterChanges(side, parameters, parametersFor(side, tuning)),
    )
  }
  return { apply: settings.flatMap(({ apply }) => apply), restore: settings.flatMap(({ restore }) => restore) }
}

/**
 * With these, another monitor could take the migration past the moment until which it can be rolled back: in postcopy QEMU refuses
 * `cont` and `migrate_cancel` on the source (docs/migration.md).
 */
const pointOfNoReturn: MigrationCapability[] = ['postcopy-ram', 'x-colo']

/**
 * What is wrong with the capabilities that are on: with one that a side alone has, apart from ours, QEMU's streams would not match;
 * with others there would be no rollback.
 */
export async function capabilityFaults(
  { source, destination }: Sides,
  tuning: Tuning,
  options: WaitOptions,
): Promise<string[]> {
  const onSource = await enabled(source, options)
  const onDestination = await enabled(destination, options)
  const own = new Set([...capabilitiesFor('source', tuning), ...capabilitiesFor('destination', tuning)])
  const differing = [...onSource, ...onDestination].filter(
    (name) => !own.has(name) && onSource.has(name) !== onDestination.has(name),
  )
  const ungoverned = pointOfNoReturn.filter((name) => !own.has(name) && onSource.has(name) && onDestination.has(name))
  return [
    ...differing.map((name) => `${name} is on at the ${onSource.has(name) ? 'source' : 'destination'} only`),
    ...ungoverned.map((name) => `${name} is on, with which there would be no rollback`),
  ]
}

async function enabled({ qmp }: Vm, options: WaitOptions): Promise<Set<MigrationCapability>> {
  const all = await qmp.execute('query-migrate-capabilities', {}, options)
  return new Set(all.filter(({ state }) => state).map(({ capability }) => capability))
}

/** The one command each that turns a side's capabilities on, and back. */
export function capabilityChanges(
  side: Side,
  now: MigrationCapabilityStatus[],
  wanted: MigrationCapability[],
): Settings {
  const off = now.filter(({ capability, state }) => wanted.includes(capability) && !state)
  if (off.length === 0) return { apply: [], restore: [] }
  const set = (state: boolean) =>
    command(side, 'migrate-set-capabilities', {
      capabilities: off.map(({ capability }) => ({ capability, state })),
    })
  return { apply: [set(true)], restore: [set(false)] }
}

/** The one command each that sets a side's parameters, and back. */
export function parameterChanges(side: Side, now: Record<string, Json>, wanted: Record<string, Json>): Settings {
  const names = Object.keys(wanted).filter((name) => now[name] !== wanted[name])
  if (names.length === 0) return { apply: [], restore: [] }
  const set = (from: Record<string, Json>) =>
    command(
      side,
      'migrate-set-parameters',
      Object.fromEntries(names.flatMap((name) => (from[name] === undefined ? [] : [[name, from[name]]]))),
    )
  return { apply: [set(wanted)], restore: [set(now)] }
}
