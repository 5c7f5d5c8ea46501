// SPDX-License-Identifier: GPL-2.0-or-later
import { Args, Flags } from '@oclif/core'
import { ExitCode, VblkError } from '../errors.ts'
import type { Check } from '../host/check.ts'
import { type FixOutcome, fixCommands, runFix } from '../host/fix.ts'
import { BaseCommand, type Context } from '../ui/base-command.ts'
import { vmDescription } from '../ui/disk-text.ts'
import { printable } from '../ui/printable.ts'

interface DoctorResult {
  checks: Check[]
  /** With --fix what was run, or with --dry-run what would be (then without an exit code). */
  fixes: (FixOutcome | { command: string })[]
}

export default class Doctor extends BaseCommand<DoctorResult> {
  static override summary = 'check whether this host can serve disks through the kernel'
  static override description =
    `Each check that fails names the command that mends it; then the exit code is 4. --fix shows these commands, runs them one
after another, and checks again. Advice that is no command is left to you.
VMs that are named are looked at, too: the device in their QEMU, free hot-plug slots, and what may keep that process from
opening /dev/vhost-blk. Nothing is changed in them.`
  static override examples = [
    '<%= config.bin %> <%= command.id %>',
    '<%= config.bin %> <%= command.id %> --qemu /usr/bin/qemu-system-x86_64 --json',
    '<%= config.bin %> <%= command.id %> --fix --dry-run',
    '<%= config.bin %> <%= command.id %> /run/vm1.qmp web',
  ]
  static override strict = false
  static override args = { vm: Args.string({ description: `VMs to look at: ${vmDescription}` }) }
  static override flags = {
    qemu: Flags.string({ helpValue: 'PROGRAM', description: 'QEMU program to check; the one in PATH unless given' }),
    fix: Flags.boolean({ description: 'run the commands that mend what failed, and check again' }),
    'dry-run': Flags.boolean({ description: 'show what --fix would run, and run nothing', dependsOn: ['fix'] }),
  }

  static override defaultTimeout = 10

  protected async execute(context: Context<typeof Doctor>): Promise<DoctorResult> {
    const { flags, progress } = context
    let checks = await this.#check(context)
    let fixes: DoctorResult['fixes'] = []
    if (flags.fix && flags['dry-run']) fixes = fixCommands(checks).map((command) => ({ command }))
    else if (flags.fix) fixes = await this.#fix(checks, context)
    if (fixes.some((fix) => 'exitCode' in fix)) checks = await this.#check(context)
    if (flags['dry-run']) for (const { command } of fixes) progress.info(`would run: ${command}`)
    const failed = checks.filter(({ status }) => status === 'fail')
    if (failed.length === 0) return { checks, fixes }
    const names = failed.map(({ name }) => name).join(', ')
    const message = `${failed.length} of ${checks.length} checks failed: ${names}`
    throw new VblkError('CHECK_FAILED', ExitCode.HostLacks, message, {
      hint: `begin with: ${failed[0]?.fix}`,
      details: { checks, fixes },
    })
  }

  async #check({ flags, words, signal, timeoutMs, trace }: Context<typeof Doctor>): Promise<Check[]> {
    const { checkModule } = await import('../host/module-checks.ts')
    const { checkKvm } = await import('../host/kvm-check.ts')
    const { checkQemu } = await import('../host/qemu-checks.ts')
    const { checkVm } = await import('../vm/check-vm.ts')
    const host = [...(await checkModule()), await checkKvm(), ...(await checkQemu(flags.qemu, { signal, timeoutMs }))]
    const vms = await Promise.all(words.map((name) => checkVm(name, { signal, timeoutMs, trace })))
    return [...host, ...vms.flat()]
  }

  /** One fix may bring the next to light: a module that was built can be loaded. None is run twice. */
  async #fix(first: Check[], context: Context<typeof Doctor>): Promise<FixOutcome[]> {
    const { flags, signal, progress, trace } = context
    const done: FixOutcome[] = []
    for (let checks = first; ; checks = await this.#check(context)) {
      const [command] = fixCommands(checks).filter((fix) => !done.some((other) => other.command === fix))
      if (command === undefined) return done
      // A build of the module takes minutes.
      const timeoutMs = (flags.timeout ?? fixSeconds) * 1000
      const outcome = await progress.wait(`running: ${command}`, (step) =>
        runFix(command, { signal, timeoutMs, onLine: trace ?? ((line) => step.detail(line.trim())) }),
      )
      if (outcome.exitCode !== 0)
        progress.warn(`${command}: exit code ${outcome.exitCode}: ${outcome.output.at(-1) ?? ''}`)
      done.push(outcome)
    }
  }

  protected render({ checks }: DoctorResult): string {
    return renderChecks(checks)
  }

  protected override renderFailure({ details }: VblkError): string {
    return details?.checks ? renderChecks(details.checks as Check[]) : ''
  }
}

const fixSeconds = 1800

function renderChecks(checks: Check[]): string {
  const widest = Math.max(...checks.map(({ name }) => name.length))
  return checks.flatMap((check) => checkLines(check, widest)).join('\n')
}

function checkLines({ status, name, message, fix }: Check, widest: number): string[] {
  const line = `${status.padEnd(4)}  ${name.padEnd(widest)}  ${printable(message)}`
  return fix === null ? [line] : [line, `${' '.repeat(widest + 8)}mend it: ${printable(fix)}`]
}
