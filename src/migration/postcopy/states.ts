// SPDX-License-Identifier: GPL-2.0-or-later

import type { MigrationInfo, MigrationStatus } from '../../qmp/index.ts'

const passedOn: ReadonlySet<MigrationStatus | undefined> = new Set<MigrationStatus>([
  'postcopy-active',
  'postcopy-paused',
  'postcopy-recover-setup',
  'postcopy-recover',
  'completed',
])

/** Whether a side's migration is where only the destination can run the VM: QEMU refuses it to the source, or has ended. */
export const hasPassedOn = ({ status }: MigrationInfo): boolean => passedOn.has(status)

/** Whether the source is about to be there, or not. */
export const isPassingOn = ({ status }: MigrationInfo): boolean => status === 'device' || status === 'cancelling'

/** Whether memory is on its way, or a new way for it is being made. */
export const isFollowing = (info: MigrationInfo): boolean =>
  hasPassedOn(info) && info.status !== 'completed' && info.status !== 'postcopy-paused'
