// SPDX-License-Identifier: GPL-2.0-or-later
import { Command, Flags, type Interfaces } from '@oclif/core'
import { ExitCode, VblkError } from '../errors.ts'
import { failureEnvelope, successEnvelope, toJsonLine } from './envelope.ts'
import { Interruption } from './interrupt.ts'
import { writeStderrLine, writeStdout } from './output.ts'
import { printable } from './printable.ts'
import { createProgress, type Progress } from './progress.ts'
import { secondsFlag } from './seconds-flag.ts'
import { usageError } from './usage-error.ts'
import { watchForBugs } from './watch-for-bugs.ts'

/** What a command gets to work with; `Context<typeof Attach>` knows the command's own flags and arguments. */
// biome-ignore lint/suspicious/noExplicitAny: a command declares its own flags, and method parameters are checked bivariantly
export interface Context<C extends typeof Command = any> {
  flags: Interfaces.InferredFlags<(typeof BaseCommand)['baseFlags'] & C['flags']>
  args: Interfaces.InferredArgs<C['args']>
  /** All words that are no flags, for a command that takes any number of them (`strict = false`). */
  words: string[]
  /** Aborted by SIGINT, SIGTERM and SIGHUP: stop, roll back, and throw its reason (or anything it is the cause of). */
  signal: AbortSignal
  /** How long the command may wait in all, in milliseconds: --timeout, or the command's default. */
  timeoutMs: number
  progress: Progress
  /** Add through progress.warn. */
  warnings: readonly string[]
  /** For a command that goes on: prints one of its results at once, as a line of JSON or as its text. */
  emit(result: unknown, text: string): Promise<void>
  /** Given with --verbose: shows one line of QMP traffic or the like on stderr. */
  trace: ((line: string) => void) | undefined
}

/**
 * The frame of every command: flags, signals, progress, the JSON envelope, and the exit codes of docs. A command
 * implements execute, which returns what `--json` reports, and render, which makes text of it.
 */
export abstract class BaseCommand<T> extends Command {
  static override baseFlags = {
    json: Flags.boolean({ description: 'print one JSON document on stdout', helpGroup: 'GLOBAL' }),
    timeout: secondsFlag({
      description: 'longest time to wait, in seconds; each command has its own default',
      helpGroup: 'GLOBAL',
    }),
    quiet: Flags.boolean({ char: 'q', description: 'show only warnings and errors', helpGroup: 'GLOBAL' }),
    verbose: Flags.boolean({ char: 'v', description: 'show the traffic with QEMU on stderr', helpGroup: 'GLOBAL' }),
  }

  /** Seconds that a command waits when --timeout doesn't say. */
  static defaultTimeout = 60

  /** Does the work. Throws VblkError for what the user can act on; anything else that is thrown counts as a bug. */
  protected abstract execute(context: Context): Promise<T>

  /** The result as text for stdout, without a final newline; '' prints nothing. Only `printable` text of others. */
  protected abstract render(result: T): string

  /** Text for stdout when the command fails but has something to show, like the list of checks. */
  protected renderFailure(_error: VblkError): string {
    return ''
  }

  override async run(): Promise<void> {
    const warnings: string[] = []
    const json = wantsJson(this.argv)
    const verbose = this.argv.includes('--verbose') || this.argv.includes('-v')
    try {
      const emit = (result: unknown, text: string) =>
        writeStdout(json ? toJsonLine(successEnvelope(result, [])) : withNewline(text))
      const result = await this.#execute(warnings, emit)
      const text = json ? '' : this.render(result)
      process.exitCode = ExitCode.Ok
      await writeStdout(json ? toJsonLine(successEnvelope(result, warnings)) : withNewline(text))
    } catch (thrown) {
      const error = asVblkError(thrown)
      process.exitCode = error.exitCode
      await writeStdout(json ? toJsonLine(failureEnvelope(error, warnings)) : withNewline(this.renderFailure(error)))
      if (!json) reportError(error)
      if (verbose && thrown instanceof Error) writeStderrLine(thrown.stack ?? '')
    }
  }

  async #execute(warnings: string[], emit: Context['emit']): Promise<T> {
    const command = this.constructor as typeof BaseCommand
    const { flags, args, words } = await this.#parse(command)
    const interruption = new Interruption()
    interruption.listen()
    const bugs = watchForBugs()
    try {
      const work = this.execute({
        flags,
        args,
        words,
        signal: interruption.signal,
        timeoutMs: (flags.timeout ?? command.defaultTimeout) * 1000,
        progress: createProgress({ quiet: flags.quiet, verbose: flags.verbose, warnings }),
        warnings,
        emit,
        trace: flags.verbose ? (line) => writeStderrLine(printable(line)) : undefined,
      })
      return await Promise.race([work, bugs.seen])
    } catch (error) {
      throw interruption.outcomeOf(error)
    } finally {
      bugs.close()
      interruption.close()
    }
  }

  async #parse(command: typeof BaseCommand) {
    try {
      const { flags, args, argv } = await this.parse({
        flags: command.flags,
        baseFlags: command.baseFlags,
        args: argumentsOnly(command.args),
        strict: command.strict,
      })
      return { flags: flags as Interfaces.InferredFlags<typeof BaseCommand.baseFlags>, args, words: argv.map(String) }
    } catch (error) {
      if (!(error instanceof Error)) throw error
      throw usageError(error, `${this.config.bin} ${(this.id ?? '').replaceAll(':', ' ')}`)
    }
  }
}

/** oclif would take stdin for an argument that is left out: what a script's loop reads would become the name of a disk. */
function argumentsOnly(args: Interfaces.ArgInput): Interfaces.ArgInput {
  return Object.fromEntries(Object.entries(args).map(([name, arg]) => [name, { ...arg, ignoreStdin: true }]))
}

/** Whether the caller reads JSON. Decided without the parser, since its complaints must be JSON as well. */
export function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--')
  return argv.slice(0, end === -1 ? undefined : end).includes('--json')
}

/** A thrown value as the error that the user is shown; what we did not foresee is a bug and says so. */
export function asVblkError(thrown: unknown): VblkError {
  if (thrown instanceof VblkError) return thrown
  const what = thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown)
  return new VblkError('BUG', ExitCode.Bug, `a bug in vblk: ${what}`, {
    hint: 'report it with the output of the same command with --verbose, and of: vblk --version',
    cause: thrown,
  })
}

/** The error for a person: what another program printed, if one failed, then one line, and one line of advice. */
export function reportError(error: VblkError): void {
  const output = error.details?.output
  if (Array.isArray(output)) for (const line of output) writeStderrLine(`  | ${printable(String(line))}`)
  writeStderrLine(`Error: ${printable(error.message)}`)
  if (error.hint) writeStderrLine(`Hint: ${printable(error.hint)}`)
}

function withNewline(text: string): string {
  return text === '' ? '' : `${text}\n`
}
