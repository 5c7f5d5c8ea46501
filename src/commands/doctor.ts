// SPDX-License-Identifier: GPL-2.0-or-later
import { Flags } from '@oclif/core'
import { ExitCode, VblkError } from '../errors.ts'
import type { Check } from '../host/check.ts'
import { BaseCommand, type Context } from '../ui/base-command.ts'
import { printable } from '../ui/printable.ts'

interface DoctorResult {
  checks: Check[]
}

export default class Doctor extends BaseCommand<DoctorResult> {
  static override description =
    'check whether this host can serve disks through the kernel\nEach check that fails names the command that mends it; then the exit code is 4.'
  static override examples = [
    '<%= config.bin %> <%= command.id %>',
    '<%= config.bin %> <%= command.id %> --qemu /usr/bin/qemu-system-x86_64 --json',
  ]
  static override flags = {
    qemu: Flags.string({ helpValue: 'PROGRAM', description: 'QEMU program to check; the one in PATH unless given' }),
  }

  static override defaultTimeout = 10

  protected async execute({ flags, signal, timeoutMs }: Context<typeof Doctor>): Promise<DoctorResult> {
    const { checkModule } = await import('../host/module-checks.ts')
    const { checkKvm } = await import('../host/kvm-check.ts')
    const { checkQemu } = await import('../host/qemu-checks.ts')
    const checks = [...(await checkModule()), await checkKvm(), ...(await checkQemu(flags.qemu, { signal, timeoutMs }))]
    const failed = checks.filter(({ status }) => status === 'fail')
    if (failed.length === 0) return { checks }
    const names = failed.map(({ name }) => name).join(', ')
    const message = `${failed.length} of ${checks.length} checks failed: ${names}`
    throw new VblkError('CHECK_FAILED', ExitCode.HostLacks, message, {
      hint: `begin with: ${failed[0]?.fix}`,
      details: { checks },
    })
  }

  protected render({ checks }: DoctorResult): string {
    return renderChecks(checks)
  }

  protected override renderFailure({ details }: VblkError): string {
    return details?.checks ? renderChecks(details.checks as Check[]) : ''
  }
}

function renderChecks(checks: Check[]): string {
  const widest = Math.max(...checks.map(({ name }) => name.length))
  return checks.flatMap((check) => checkLines(check, widest)).join('\n')
}

function checkLines({ status, name, message, fix }: Check, widest: number): string[] {
  const line = `${status.padEnd(4)}  ${name.padEnd(widest)}  ${printable(message)}`
  return fix === null ? [line] : [line, `${' '.repeat(widest + 8)}mend it: ${printable(fix)}`]
}
