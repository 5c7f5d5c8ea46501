// SPDX-License-Identifier: GPL-2.0-or-later

import { Args, Flags } from '@oclif/core'
import { type ApplyAction, type ApplyResult, type ApplyStep, applyState } from '../disk/apply.ts'
import { readStateFile } from '../disk/state-file.ts'
import { ExitCode, VblkError } from '../errors.ts'
import { BaseCommand, type Context } from '../ui/base-command.ts'
import { formatCommands, vmDescription } from '../ui/disk-text.ts'
import { printable } from '../ui/printable.ts'
import { withLockedVm } from '../vm/vm.ts'

const signs: Record<ApplyAction, string> = { attach: '+', detach: '-', replace: '~', keep: ' ', leave: ' ' }

export default class Apply extends BaseCommand<ApplyResult> {
  static override summary = 'bring a VM to having the disks that a file lists'

  static override description = `The file is YAML or JSON, with the names of attach's flags:

  vm: web1
  disks:
    - id: data
      file: /dev/vg0/data
      serial: D1
      queues: 4
    - id: logs
      file: logs.raw            # relative to this file
      cache: writeback
      datapath: auto

Shows the difference first: + attach, - detach, ~ detach and attach again. Applying it again changes nothing. A disk that vblk
attached and that isn't listed is left alone without --prune; other disks always are.`

  static override examples = [
    '<%= config.bin %> apply web1.yaml --dry-run',
    '<%= config.bin %> apply web1.yaml --prune',
    '<%= config.bin %> apply disks.json --vm /run/vm1.qmp',
  ]

  static override args = { file: Args.string({ description: 'YAML or JSON file', required: true }) }

  static override flags = {
    vm: Flags.string({ description: `the VM, unless the file names it: ${vmDescription}`, helpValue: 'VM' }),
    prune: Flags.boolean({ description: 'detach what vblk attached and the file does not list', default: false }),
    replace: Flags.boolean({
      description: 'detach and attach again what differs; the guest loses the disk meanwhile',
      default: false,
    }),
    'dry-run': Flags.boolean({ description: 'print the QMP commands and change nothing', default: false }),
  }

  protected override async execute(context: Context<typeof Apply>): Promise<ApplyResult> {
    const { args, flags, signal, timeoutMs, progress, trace } = context
    const state = await readStateFile(args.file)
    const name = flags.vm ?? state.vm
    if (name === null) {
      throw new VblkError('NO_VM', ExitCode.Usage, `${args.file} names no vm`, {
        hint: 'add "vm:" to it, or give --vm',
      })
    }
    const open = { timeoutMs, signal, trace, warn: (message: string) => progress.warn(message) }
    return await withLockedVm(name, open, (vm) =>
      applyState(
        vm,
        state.disks,
        {
          timeoutMs,
          signal,
          report: progress,
          dryRun: flags['dry-run'],
          prune: flags.prune,
          replace: flags.replace,
        },
        (steps) => {
          for (const step of steps) progress.info(formatStep(step))
        },
      ),
    )
  }

  protected override render({ vm, changed, steps, commands, dryRun }: ApplyResult): string {
    if (dryRun && commands.length > 0) return formatCommands(commands)
    const count = (action: ApplyAction) => steps.filter((step) => step.action === action).length
    if (!changed) return printable(`${vm} is so already: ${count('keep')} ${count('keep') === 1 ? 'disk' : 'disks'}`)
    const done = (['attach', 'replace', 'detach', 'keep'] as const).filter((action) => count(action) > 0)
    const past = { attach: 'attached', replace: 'replaced', detach: 'detached', keep: 'as they were' }
    return printable(`${vm}: ${done.map((action) => `${count(action)} ${past[action]}`).join(', ')}`)
  }
}

function formatStep({ id, action, differences }: ApplyStep): string {
  const why = action === 'leave' ? ['not listed, left alone'] : differences
  return `${signs[action]} ${id}${why.length > 0 ? ` (${why.join('; ')})` : ''}`
}
