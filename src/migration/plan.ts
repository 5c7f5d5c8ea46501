// SPDX-License-Identifier: GPL-2.0-or-later

import path from 'node:path'
import { type DescriptorSets, setName } from '../disk/descriptors.ts'
import type { DiskInfo } from '../disk/info.ts'
import { blockdevAddArguments, throttleArguments } from '../disk/plan.ts'
import { command, type SideCommand } from './commands.ts'
import type { Preparation } from './preparation.ts'
import type { DeviceProperties } from './properties.ts'
import type { Settings } from './settings.ts'
import {
  closeCommands,
  copiedDisks,
  endCommand,
  leaveCommands,
  mirrorCommands,
  nbdSocket,
  type StorageCopy,
  serveCommands,
  speedOf,
} from './storage/copy.ts'

/** A disk of the VM, before the migration. */
export interface PlannedDisk {
  /** The id, or the place of a disk without one. */
  name: string
  source: DiskInfo
  properties: DeviceProperties
  destination: Pick<DiskInfo, 'path' | 'file' | 'node' | 'writeCacheSetting' | 'writeCache' | 'kernel'>
  /** What makes it on the destination; undefined if the destination has it. */
  preparation: Preparation | undefined
  /** How its storage goes along; undefined for a disk that both sides share. */
  copy?: StorageCopy | undefined
}

/** All that is known and decided before anything is changed. */
export interface Plan {
  /** The VM runs, and shall run on the destination; else it stands still on both. */
  wasRunning: boolean
  disks: PlannedDisk[]
  settings: Settings
  keepSource: boolean
  /** Of the user's wish, for the storage that goes along: bytes per second. */
  bandwidth?: number | undefined
  /** The VM runs at the destination before all of its memory is there; undefined: memory comes first. */
  postcopy?: { afterMs: number | undefined } | undefined
}

/** A plan whose disks are made and whose settings are set. */
export interface ReadyPlan extends Omit<Plan, 'disks' | 'settings'> {
  disks: (Omit<PlannedDisk, 'preparation'> & { preparation: Pick<Preparation, 'id'> | undefined })[]
  settings: Pick<Settings, 'restore'>
}

/** What of a plan must be known to roll back or to finish: as much as a journal keeps. */
export interface Remains {
  wasRunning: boolean
  keepSource: boolean
  settings: Pick<Settings, 'restore'>
  disks: {
    name: string
    source: Pick<DiskInfo, 'id' | 'path' | 'bus' | 'addr' | 'datapath'>
    destination: Pick<DiskInfo, 'path'>
    /** The disk is vblk's own on the destination; undefined if the destination had it. */
    preparation: Pick<Preparation, 'id'> | undefined
    copy?: StorageCopy | undefined
  }[]
}

/** Makes a disk, from the sets that its files were passed in if they were. */
export function prepareCommands({ spec, device }: Preparation, sets?: DescriptorSets): SideCommand[] {
  const throttle = throttleArguments(spec)
  const vhostdev = sets?.kernel === undefined ? {} : { vhostdev: setName(sets.kernel) }
  return [
    command('destination', 'blockdev-add', blockdevAddArguments(spec, sets)),
    command('destination', 'device_add', { ...device, ...vhostdev }),
    ...(throttle === undefined ? [] : [command('destination', 'block_set_io_throttle', throttle)]),
  ]
}

/**
 * Makes the destination wait at the channel. In this state `stop` only keeps it from starting the VM by itself; since that
 * can't be asked for, it stays so if anything fails afterwards.
 */
export function listenCommands(uri: string): SideCommand[] {
  return [
    command('destination', 'stop', {}),
    command('destination', 'migrate-incoming', { uri, 'exit-on-error': false }),
  ]
}

export function startCommand(uri: string): SideCommand {
  return command('source', 'migrate', { uri })
}

export const startPostcopyCommand = command('source', 'migrate-start-postcopy', {})
export const continueCommand = command('source', 'migrate-continue', { state: 'pre-switchover' })
export const runCommand = command('destination', 'cont', {})
export const endSourceCommand = command('source', 'quit', {})

/** Every command that changes something, in order, if all goes well. */
export function planCommands(plan: Plan, uri: string): SideCommand[] {
  const { wasRunning, disks, settings, keepSource, bandwidth, postcopy } = plan
  const copied = copiedDisks(disks)
  const socket = nbdSocket(path.dirname(uri.replace(/^unix:/, '')))
  return [
    ...disks.flatMap(({ preparation }) => (preparation === undefined ? [] : prepareCommands(preparation))),
    ...settings.apply,
    ...serveCommands(copied, socket),
    ...copied.flatMap((disk) => mirrorCommands(disk, socket, speedOf(bandwidth, copied.length))),
    ...listenCommands(uri),
    startCommand(uri),
    ...(postcopy === undefined ? [] : [startPostcopyCommand]),
    ...copied.map(endCommand),
    ...copied.flatMap(leaveCommands),
    ...closeCommands(copied),
    continueCommand,
    ...(wasRunning ? [runCommand] : []),
    ...endCommands({ settings, keepSource }),
  ]
}

/** What is left to do after the point of no return. */
export function endCommands({ settings, keepSource }: Pick<Remains, 'settings' | 'keepSource'>): SideCommand[] {
  const here = settings.restore.filter(({ side }) => side === 'source' && keepSource)
  const there = settings.restore.filter(({ side }) => side === 'destination')
  return [...there, ...here, ...(keepSource ? [] : [endSourceCommand])]
}
