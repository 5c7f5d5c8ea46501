// SPDX-License-Identifier: GPL-2.0-or-later

import { Args } from '@oclif/core'
import { BaseCommand, type Context } from '../ui/base-command.ts'
import { completionScript, type Shell } from '../ui/completion.ts'
import { readCommands } from '../ui/manifest.ts'

export interface CompletionResult {
  shell: Shell
  script: string
}

export default class Completion extends BaseCommand<CompletionResult> {
  static override summary = 'print what makes a shell complete vblk command lines'

  static override description = 'Completes commands, flags and their values, registered VMs and files.'

  static override examples = [
    'source <(<%= config.bin %> completion bash)',
    '<%= config.bin %> completion bash >/etc/bash_completion.d/vblk',
    '<%= config.bin %> completion zsh >~/.zfunc/_vblk',
    '<%= config.bin %> completion fish >~/.config/fish/completions/vblk.fish',
  ]

  static override args = {
    shell: Args.string({ description: 'which shell', options: ['bash', 'zsh', 'fish'], required: true }),
  }

  protected override async execute({ args }: Context<typeof Completion>): Promise<CompletionResult> {
    const shell = args.shell as Shell
    return { shell, script: completionScript(shell, readCommands()) }
  }

  protected override render({ script }: CompletionResult): string {
    return script
  }
}
