// SPDX-License-Identifier: GPL-2.0-or-later

import { Args, Flags } from '@oclif/core'
import { type AttachResult, attachDisk } from '../disk/attach.ts'
import { parseRate } from '../disk/size.ts'
import { checkRequest } from '../disk/spec.ts'
import { BaseCommand, type Context } from '../ui/base-command.ts'
import { formatCommands, formatDatapath, vmArgument } from '../ui/disk-text.ts'
import { withLockedVm } from '../vm/vm.ts'

export default class Attach extends BaseCommand<AttachResult> {
  static override summary = 'give a running VM a disk that the host kernel serves'

  static override description =
    `Adds a raw file or block device to a VM as a virtio-blk disk and waits until it is there.
With --datapath kernel it also waits for the guest's driver, since only then the kernel can begin.
Attaching the very disk that is attached already changes nothing and succeeds.
Limits (--bandwidth, --iops) are kept by QEMU, so QEMU serves a disk that has some, and the kernel as soon as they are
lifted (QMP block_set_io_throttle with zeroes). While the kernel serves the disk, its worker takes an iothread's place.`

  static override examples = [
    '<%= config.bin %> attach /run/vm1.qmp /dev/vg0/data --id data',
    '<%= config.bin %> attach /run/vm1.qmp disk.img --id disk1 --serial D1 --queues 4 --dry-run',
    '<%= config.bin %> attach /run/vm1.qmp disk.img --id slow --bandwidth 50M --iops 500',
    '<%= config.bin %> attach /run/vm1.qmp disk.img --id private --pass-fd',
    '<%= config.bin %> attach /run/vm1.qmp /dev/fd/3 --id private 3<>disk.img',
  ]

  static override args = {
    vm: vmArgument(),
    file: Args.string({
      description: 'raw image file or block device, or /dev/fd/N for a descriptor that vblk inherits and passes on',
      required: true,
    }),
  }

  static override flags = {
    id: Flags.string({ description: "the disk's id in the VM", required: true }),
    'read-only': Flags.boolean({ description: 'let the guest only read', default: false }),
    raw: Flags.boolean({
      description: 'take the bytes as the disk even if they begin like an image format',
      default: false,
    }),
    cache: Flags.option({
      description: "the host's page cache: none (O_DIRECT) or writeback",
      options: ['none', 'writeback'] as const,
      default: 'none' as const,
    })(),
    'write-cache': Flags.option({
      description: 'the write cache that the guest sees at first',
      options: ['auto', 'writeback', 'writethrough'] as const,
      default: 'auto' as const,
    })(),
    serial: Flags.string({ description: 'what the guest reads as the serial, 20 characters at most' }),
    queues: Flags.integer({ description: 'number of virtqueues (one per virtual CPU if not given)' }),
    iothread: Flags.string({ helpValue: 'ID', description: 'iothread object of the VM that serves it when QEMU does' }),
    bus: Flags.string({ description: 'bus to plug it into (the first free hot-plug port if not given)' }),
    addr: Flags.string({ description: 'PCI address on that bus, like 3 or 3.0', dependsOn: ['bus'] }),
    'logical-block-size': Flags.integer({ helpValue: 'BYTES', description: 'least that the guest can read or write' }),
    'physical-block-size': Flags.integer({ helpValue: 'BYTES', description: 'what the guest aligns to' }),
    discard: Flags.option({
      description: 'give blocks that the guest discards back to the storage, or let it discard none',
      options: ['unmap', 'ignore'] as const,
      default: 'unmap' as const,
    })(),
    bandwidth: Flags.string({ helpValue: 'SIZE', description: 'most bytes per second, like 100M' }),
    iops: Flags.integer({ helpValue: 'NUMBER', description: 'most requests per second' }),
    datapath: Flags.option({
      description:
        'who serves it: kernel (or fail), userspace (QEMU), auto (the kernel if it can); kernel if not given, auto with limits',
      options: ['kernel', 'userspace', 'auto'] as const,
    })(),
    'pass-fd': Flags.boolean({
      description: 'open FILE and /dev/vhost-blk here and pass the descriptors, for a QEMU that may open neither',
      default: false,
    }),
    'dry-run': Flags.boolean({ description: 'print the QMP commands and change nothing', default: false }),
  }

  static override defaultTimeout = 30

  protected override async execute(context: Context<typeof Attach>): Promise<AttachResult> {
    const { flags, args, signal, timeoutMs, progress, trace } = context
    const spec = await checkRequest({
      id: flags.id,
      file: args.file,
      readOnly: flags['read-only'],
      raw: flags.raw,
      cache: flags.cache,
      writeCache: flags['write-cache'],
      datapath: flags.datapath,
      serial: flags.serial,
      queues: flags.queues,
      iothread: flags.iothread,
      bus: flags.bus,
      addr: flags.addr,
      logicalBlockSize: flags['logical-block-size'],
      physicalBlockSize: flags['physical-block-size'],
      discard: flags.discard,
      bandwidth: flags.bandwidth === undefined ? undefined : parseRate(flags.bandwidth),
      iops: flags.iops,
      passFds: flags['pass-fd'],
    })
    return await withLockedVm(args.vm, { timeoutMs, signal, trace, warn: (message) => progress.warn(message) }, (vm) =>
      attachDisk(vm, spec, { timeoutMs, signal, report: progress, dryRun: flags['dry-run'] }),
    )
  }

  protected override render({ id, changed, disk, commands, dryRun }: AttachResult): string {
    if (disk === null) return formatCommands(commands)
    if (changed) return `${id} is attached; datapath: ${formatDatapath(disk)}`
    return `${id} is attached already${dryRun ? ': nothing to do' : ''}; datapath: ${formatDatapath(disk)}`
  }
}
