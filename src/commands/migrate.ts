// SPDX-License-Identifier: GPL-2.0-or-later

import { Args, Flags } from '@oclif/core'
import { ExitCode, VblkError } from '../errors.ts'
import { sshAddress } from '../migration/hosts/other-host.ts'
import { startThere } from '../migration/hosts/start-there.ts'
import { sshName } from '../migration/hosts/with-there-vm.ts'
import { FileStore } from '../migration/journal/store.ts'
import { type DryRun, migrate } from '../migration/migrate.ts'
import type { MigratedVm } from '../migration/result.ts'
import { Successor } from '../migration/same-host/successor.ts'
import { startDestination } from '../migration/start-destination.ts'
import { withTwoVms } from '../migration/with-two-vms.ts'
import { BaseCommand, type Context } from '../ui/base-command.ts'
import { copyRequests, copyStorageFlag } from '../ui/copy-storage-flag.ts'
import { vmArgument } from '../ui/disk-text.ts'
import { renderDryRun, renderMigrated } from '../ui/migration-text.ts'
import { tuningFlags, tuningOf } from '../ui/tuning-flags.ts'
import type { Vm } from '../vm/vm.ts'

const answerMs = 30_000

export default class Migrate extends BaseCommand<MigratedVm | DryRun> {
  static override summary = 'move a VM to another QEMU, on this host or another'

  static override description =
    `Moves a running or paused VM with its memory to a QEMU that was started with the same arguments and -incoming defer.
Disks that vblk attached are made on the destination with the same id, slot and settings. Before device state is saved
every kernel backend must have stopped, and the destination runs only after its write caches were found as they were.
Whatever fails until then is rolled back: the VM goes on where it was, and the destination's QEMU is ended.
A destination on another host is reached by ssh, which must work without a question and find the same vblk there. Both
hosts must have the very same disks, and both keep the migration's journal.
Between two QEMUs of one host, --copy-storage moves a disk's contents to another image: QEMU serves the disk while it is copied,
every write goes to both, and the source's image is left as it was at the switchover. --bandwidth and --timeout hold for it too.
With --postcopy a VM whose memory changes faster than it is sent moves too: it runs at the destination while the rest follows. From
then on it needs both QEMUs until all has come, and nothing can be rolled back.
With --same-host the VM gets a new QEMU under it, with no reboot: to leave stock virtio-blk for the kernel's datapath, or for a
QEMU that was upgraded.`

  static override examples = [
    '<%= config.bin %> migrate /run/vm1.qmp /run/vm1-new.qmp',
    '<%= config.bin %> migrate /run/vm1.qmp ssh://root@host2/run/vm1.qmp',
    '<%= config.bin %> migrate /run/vm1.qmp /run/vm1-new.qmp --downtime-limit 100 --dry-run',
    '<%= config.bin %> migrate /run/vm1.qmp /run/vm1-new.qmp --start-destination /etc/vms/vm1-incoming',
    '<%= config.bin %> migrate /run/vm1.qmp /run/vm1-new.qmp --copy-storage data=/dev/vg1/data --timeout 7200',
    '<%= config.bin %> migrate /run/vm1.qmp /run/vm1-new.qmp --postcopy --timeout 1800',
    '<%= config.bin %> migrate /run/vm1.qmp --same-host --datapath kernel',
    '<%= config.bin %> migrate /run/vm1.qmp /run/vm1-new.qmp --multifd 4 --compress zstd --auto-converge',
  ]

  static override args = {
    vm: vmArgument(),
    destination: Args.string({
      description: 'QMP socket of the QEMU that takes it: a path, or ssh://HOST/PATH; may be left out with --same-host',
    }),
  }

  static override flags = {
    ...tuningFlags,
    'copy-storage': copyStorageFlag(),
    'start-destination': Flags.string({
      description:
        'if nobody serves DESTINATION, run this program, on its host, with its path, and end the QEMU if the VM can not move',
      helpValue: 'PROGRAM',
      exclusive: ['dry-run'],
    }),
    'same-host': Flags.boolean({
      description:
        "start the destination's QEMU from the arguments of the VM's own, with disks that the kernel can serve; without DESTINATION its monitor gets the VM's name in the end",
      exclusive: ['start-destination', 'keep-source', 'dry-run'],
    }),
    qemu: Flags.string({
      description: 'the program to start, if not that of the VM',
      helpValue: 'PATH',
      dependsOn: ['same-host'],
    }),
    'keep-source': Flags.boolean({ description: "leave the source's QEMU there, stopped, instead of ending it" }),
    'dry-run': Flags.boolean({ description: 'print the QMP commands and change nothing' }),
  }

  static override defaultTimeout = 600

  protected override async execute(context: Context<typeof Migrate>): Promise<MigratedVm | DryRun> {
    const { flags, args, signal, timeoutMs, progress, trace } = context
    const copyStorage = copyRequests(flags['copy-storage'])
    const warn = (message: string) => progress.warn(message)
    const starter = starterOf(context)
    const destination = args.destination ?? (await starter.ownName?.(args.vm))
    if (destination === undefined) {
      throw new VblkError('NO_DESTINATION', ExitCode.Usage, 'where to? DESTINATION is missing', {
        hint: 'name the QMP socket of the QEMU that takes the VM, or give --same-host',
      })
    }
    const link = { timeoutMs: Math.min(timeoutMs, answerMs), signal, warn, trace, outOfBand: flags.postcopy === true }
    const open = { ...link, start: starter.start }
    const result = await withTwoVms({ vm: args.vm, destination }, open, (sides) =>
      migrate(sides, {
        timeoutMs,
        signal,
        report: progress,
        journal: new FileStore(),
        dryRun: flags['dry-run'],
        ...tuningOf(flags),
        keepSource: flags['keep-source'] === true,
        copyStorage,
      }),
    )
    return 'dryRun' in result ? result : ((await starter.settle?.(result)) ?? result)
  }

  protected override render(result: MigratedVm | DryRun): string {
    return 'dryRun' in result ? renderDryRun(result) : renderMigrated(result)
  }
}

/** How the destination is started, if it is to be. */
interface DestinationStarter {
  start?: (destination: string, source: Vm) => Promise<boolean>
  /** The name of a destination that the user has not named. */
  ownName?: (vm: string) => Promise<string>
  /** What is left to do when the VM has moved. */
  settle?: (result: MigratedVm) => Promise<MigratedVm>
}

function starterOf({ flags, args, signal, progress, timeoutMs }: Context<typeof Migrate>): DestinationStarter {
  const program = flags['start-destination']
  const options = { signal, timeoutMs }
  const step = (name: string, work: () => Promise<boolean>) => progress.step(`starting ${name}`, work)
  if (program !== undefined) {
    const start = async (name: string) => {
      const there = sshAddress((await sshName(name)) ?? '')
      return await (there === undefined
        ? startDestination(program, name, options)
        : startThere(program, there, options))
    }
    return { start: (name) => step(name, () => start(name)) }
  }
  if (flags['same-host'] !== true) return {}
  const warn = (message: string) => progress.warn(message)
  const successor = new Successor({ ...options, warn, qemu: flags.qemu, kernel: tuningOf(flags).datapath === 'kernel' })
  return {
    start: (name, source) => step(name, () => successor.start(source, name)),
    ownName: (vm) => successor.nameFor(vm),
    settle: (result) => successor.settle(result, args.destination === undefined),
  }
}
