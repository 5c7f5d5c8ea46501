// SPDX-License-Identifier: GPL-2.0-or-later
import { Help } from '@oclif/core'
import { exitCodeMeanings } from './exit-code-meanings.ts'

/** oclif's help, with the exit codes below the list of commands. */
export default class VblkHelp extends Help {
  protected override async showRootHelp(): Promise<void> {
    await super.showRootHelp()
    const list = exitCodeMeanings.map(([code, meaning]): [string, string] => [String(code), meaning])
    this.log(
      this.section(
        'EXIT CODES',
        this.renderList(list, { indentation: 2, spacer: '\n', stripAnsi: this.opts.stripAnsi ?? false }),
      ),
    )
    this.log('')
  }
}
