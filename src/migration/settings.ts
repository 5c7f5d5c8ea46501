// SPDX-License-Identifier: GPL-2.0-or-later

import type { Json, MigrationCapabilityStatus, WaitOptions } from '../qmp/index.ts'
import type { Vm } from '../vm/vm.ts'
import { command, type SideCommand } from './commands.ts'
import type { MigrateOptions, Side, Sides } from './options.ts'

/** Capabilities that we set ourselves, so that it doesn't matter how they stand. */
const ours: Record<Side, readonly string[]> = {
  source: ['events', 'pause-before-switchover'],
  destination: ['events'],
}

/** What a migration changes in QEMU's migration settings, and what puts it back. */
export interface Settings {
  apply: SideCommand[]
  restore: SideCommand[]
}

/** Reads both sides' settings, and plans what has to change. Throws what QmpClient.execute throws. */
export async function planSettings(
  { source, destination }: Sides,
  { downtimeLimitMs, bandwidth }: Pick<MigrateOptions, 'downtimeLimitMs' | 'bandwidth'>,
  options: WaitOptions,
): Promise<Settings> {
  const wanted: Record<string, Json> = {}
  if (downtimeLimitMs !== undefined) wanted['downtime-limit'] = downtimeLimitMs
  if (bandwidth !== undefined) wanted['max-bandwidth'] = bandwidth
  const parameters = parameterChanges(await source.qmp.execute('query-migrate-parameters', {}, options), wanted)
  const settings = [
    parameters,
    capabilityChanges('source', await source.qmp.execute('query-migrate-capabilities', {}, options)),
    capabilityChanges('destination', await destination.qmp.execute('query-migrate-capabilities', {}, options)),
  ]
  return { apply: settings.flatMap(({ apply }) => apply), restore: settings.flatMap(({ restore }) => restore) }
}

/** The capabilities that one side has on and the other hasn't, apart from ours: QEMU's streams would not match. */
export async function differingCapabilities({ source, destination }: Sides, options: WaitOptions): Promise<string[]> {
  const onSource = await enabled(source, options)
  const onDestination = await enabled(destination, options)
  const own = new Set([...ours.source, ...ours.destination])
  const differing = [...onSource, ...onDestination].filter(
    (name) => !own.has(name) && onSource.has(name) !== onDestination.has(name),
  )
  return differing.map((name) => `${name} is on at the ${onSource.has(name) ? 'source' : 'destination'} only`)
}

async function enabled({ qmp }: Vm, options: WaitOptions): Promise<Set<string>> {
  const all = await qmp.execute('query-migrate-capabilities', {}, options)
  return new Set(all.filter(({ state }) => state).map(({ capability }) => capability))
}

/** The one command each that turns a side's capabilities on, and back. */
export function capabilityChanges(side: Side, now: MigrationCapabilityStatus[]): Settings {
  const off = now.filter(({ capability, state }) => ours[side].includes(capability) && !state)
  if (off.length === 0) return { apply: [], restore: [] }
  const set = (state: boolean) =>
    command(side, 'migrate-set-capabilities', {
      capabilities: off.map(({ capability }) => ({ capability, state })),
    })
  return { apply: [set(true)], restore: [set(false)] }
}

/** The one command each that sets the source's parameters, and back. */
export function parameterChanges(now: Record<string, Json>, wanted: Record<string, Json>): Settings {
  const names = Object.keys(wanted).filter((name) => now[name] !== wanted[name])
  if (names.length === 0) return { apply: [], restore: [] }
  const set = (from: Record<string, Json>) =>
    command(
      'source',
      'migrate-set-parameters',
      Object.fromEntries(names.flatMap((name) => (from[name] === undefined ? [] : [[name, from[name]]]))),
    )
  return { apply: [set(wanted)], restore: [set(now)] }
}
