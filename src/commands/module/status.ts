// SPDX-License-Identifier: GPL-2.0-or-later
import { Flags } from '@oclif/core'
import type { ModuleStatus } from '../../host/module-status.ts'
import { BaseCommand, type Context } from '../../ui/base-command.ts'
import { pairs, table } from '../../ui/table.ts'

export default class ModuleStatusCommand extends BaseCommand<ModuleStatus> {
  static override description = 'show whether the kernel module is built and loaded, and who uses it'
  static override examples = ['<%= config.bin %> <%= command.id %>', '<%= config.bin %> <%= command.id %> --json']
  static override flags = {
    'build-dir': Flags.string({ helpValue: 'DIR', description: 'look at the module built there' }),
  }

  protected async execute({ flags }: Context<typeof ModuleStatusCommand>): Promise<ModuleStatus> {
    const { readModuleStatus } = await import('../../host/module-status.ts')
    return readModuleStatus(flags['build-dir'])
  }

  protected render({ kernel, source, file, loaded, users }: ModuleStatus): string {
    const overview = pairs([
      ['kernel', kernel],
      ['source', source ?? 'not in this installation'],
      ['module', file ? `${file.path} (${file.installed ? 'installed' : 'built'})` : 'not built'],
      ['built for', file ? `${file.kernel}${file.matches ? '' : ', which is not the running kernel'}` : '-'],
      ['loaded', loaded ? `version ${loaded.version ?? 'unknown'}, ABI ${loaded.abiVersion ?? 'unknown'}` : 'no'],
      ['open descriptors', loaded?.refcount ?? 0],
    ])
    if (users.length === 0) return overview
    const disks = users.flatMap((user) => user.disks.map((disk) => ({ ...disk, pid: user.pid, command: user.command })))
    const list = table(disks, [
      { header: 'PID', value: (disk) => disk.pid, align: 'right' },
      { header: 'COMMAND', value: (disk) => disk.command },
      { header: 'FD', value: (disk) => disk.fd, align: 'right' },
      { header: 'SERIAL', value: (disk) => disk.serial || '-' },
      { header: 'QUEUES', value: (disk) => disk.runningQueues, align: 'right' },
      { header: 'REQUESTS', value: (disk) => disk.requests, align: 'right' },
      { header: 'ERRORS', value: (disk) => disk.errors, align: 'right' },
    ])
    return `${overview}\n\n${list}`
  }
}
