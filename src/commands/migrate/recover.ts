// SPDX-License-Identifier: GPL-2.0-or-later

import { Flags } from '@oclif/core'
import { endLeftDestination } from '../../migration/hosts/left-destination.ts'
import { isOfTwo } from '../../migration/hosts/with-hosts.ts'
import { chooseRecord } from '../../migration/journal/choose.ts'
import { isOpen } from '../../migration/journal/record.ts'
import { FileStore } from '../../migration/journal/store.ts'
import { requireNotUnderWay } from '../../migration/journal/summary.ts'
import { type Recovered, recover } from '../../migration/recover.ts'
import { withMigration } from '../../migration/with-migration.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { migrationArgument } from '../../ui/migration-text.ts'
import { peerFlag } from '../../ui/peer-flag.ts'

interface Nothing {
  id: string | null
  message: string
}

export default class MigrateRecover extends BaseCommand<Recovered | Nothing> {
  static override summary = 'bring a migration to its end whose vblk has ended in the middle'

  static override description =
    `Reads the journal, asks both QEMUs, and lets the VM go on at the one side that may have it: the source as long as
the destination was not allowed to run, else the destination. Where a QEMU can't be asked and has not certainly ended,
nothing is changed and the exit code is 8, unless --fenced says that it is gone. The same goes for a destination that has
ended just as it was to run the VM, unless --destination-ran says whether it did. A VM in postcopy gets the rest of its memory.`

  static override examples = [
    '<%= config.bin %> migrate recover',
    '<%= config.bin %> migrate recover --fenced /run/vm1.qmp',
    '<%= config.bin %> migrate recover --peer root@host1',
  ]

  static override args = { migration: migrationArgument() }

  static override flags = {
    fenced: Flags.string({
      description: 'this QEMU, or this host, is certainly gone and will not come back',
      helpValue: 'VM|HOST',
      multiple: true,
    }),
    peer: peerFlag(),
    'destination-ran': Flags.string({
      description: 'whether the VM ran at a destination that has ended; no lets the source go on',
      options: ['yes', 'no'],
    }),
  }

  static override defaultTimeout = 120

  protected override async execute(context: Context<typeof MigrateRecover>): Promise<Recovered | Nothing> {
    const { args, flags, progress, timeoutMs, trace, signal } = context
    const journal = new FileStore()
    const chosen = await chooseRecord(journal, args.migration)
    if (chosen === undefined) return { id: null, message: 'no migration is open' }
    const betweenHosts = isOfTwo(chosen)
    if (!betweenHosts) {
      if (!isOpen(chosen)) return { id: chosen.id, message: `it is over: ${chosen.phase}` }
      requireNotUnderWay(chosen)
    }
    const warn = (message: string) => progress.warn(message)
    const link = { timeoutMs, trace, outOfBand: true, warn, ...(betweenHosts && { signal }) }
    const options = { ...link, journal, fenced: flags.fenced ?? [], peer: flags.peer }
    return await withMigration(chosen, options, async ({ record, journal, found }) => {
      if (!isOpen(record)) {
        if (betweenHosts) await endLeftDestination(record, found, warn)
        return { id: record.id, message: `it is over: ${record.phase}` }
      }
      const ran = flags['destination-ran']
      const destinationRan = ran === undefined ? undefined : ran === 'yes'
      return await recover(record, { journal, report: progress, found, destinationRan, timeoutMs })
    })
  }

  protected override render(result: Recovered | Nothing): string {
    if (!('owner' in result)) return result.message
    const { message, vm, owner, ownerName } = result
    return `${message}; the VM: ${vm}; its disks belong to the ${owner}, ${ownerName}`
  }
}
