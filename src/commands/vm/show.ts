// SPDX-License-Identifier: GPL-2.0-or-later

import { listDisks } from '../../disk/info.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { vmArgument } from '../../ui/disk-text.ts'
import { pairs } from '../../ui/table.ts'
import { findProcess } from '../../vm/qemu-process.ts'
import { findRegistered } from '../../vm/registry.ts'
import { listSlots } from '../../vm/slots.ts'
import { readFacts, withVm } from '../../vm/vm.ts'

export interface VmShowResult {
  vm: string
  /** What the name stands for; null for a VM that was named by its address. */
  address: string | null
  qemu: string
  machine: string
  running: boolean
  status: string
  /** Whether this QEMU has the device that the kernel can serve. */
  vhostBlk: boolean
  /** The process at the other end of the monitor; null when it can't be known from here. */
  pid: number | null
  disks: number
  slots: { total: number; free: number }
}

export default class VmShow extends BaseCommand<VmShowResult> {
  static override summary = 'show what a VM is and whether it can take disks'

  static override description =
    'Asks its QEMU: version, machine, state, hot-plug ports, and whether it has the vhost-blk device.'

  static override examples = ['<%= config.bin %> vm show web1', '<%= config.bin %> vm show /run/vm1.qmp --json']

  static override args = { vm: vmArgument() }

  static override defaultTimeout = 30

  protected override async execute(context: Context<typeof VmShow>): Promise<VmShowResult> {
    const { args, signal, timeoutMs, trace } = context
    return await withVm(args.vm, { timeoutMs, signal, trace }, async (vm) => {
      const { version, status, machine, hasVhostBlk } = await readFacts(vm, { signal })
      const { major, minor, micro } = version.qemu
      const slots = await listSlots(vm, { signal })
      const process = findProcess(vm)
      return {
        vm: args.vm,
        address: args.vm.includes('/') ? null : ((await findRegistered(args.vm))?.address ?? null),
        qemu: `${major}.${minor}.${micro}`,
        machine,
        running: status.running,
        status: status.status,
        vhostBlk: hasVhostBlk,
        pid: 'unknown' in process ? null : process.pid,
        disks: (await listDisks(vm, { signal })).length,
        slots: { total: slots.length, free: slots.filter(({ occupants }) => occupants.length === 0).length },
      }
    })
  }

  protected override render(result: VmShowResult): string {
    return pairs([
      ['vm', result.vm],
      ['address', result.address ?? '-'],
      ['qemu', result.qemu],
      ['machine', result.machine],
      ['state', result.status],
      ['process', result.pid ?? '-'],
      ['vhost-blk device', result.vhostBlk ? 'yes' : 'no: start it with what "vblk device args" prints'],
      ['virtio disks', result.disks],
      ['hot-plug ports', `${result.slots.free} free of ${result.slots.total}`],
    ])
  }
}
