// SPDX-License-Identifier: GPL-2.0-or-later

import { Flags } from '@oclif/core'
import { ExitCode, VblkError } from '../errors.ts'
import { type EventStream, QmpConnectionLostError, type QmpEvent, QmpTimeoutError } from '../qmp/index.ts'
import { BaseCommand, type Context } from '../ui/base-command.ts'
import { vmArgument } from '../ui/disk-text.ts'
import { printable } from '../ui/printable.ts'
import { withVm } from '../vm/vm.ts'

export interface EventsResult {
  /** How many events were printed. */
  count: number
}

export default class Events extends BaseCommand<EventsResult> {
  static override summary = "print a VM's events as they come"

  static override description =
    `With --json each event is a document of its own on a line of its own, and a last line tells how it ended.
Goes on until --count events have come, --timeout is over, or the VM has ended. Meanwhile no other client can use this
monitor: give the VM one of its own for it.`

  static override examples = [
    '<%= config.bin %> events /run/vm1-events.qmp --json',
    {
      description: 'wait at most a minute until a device is gone',
      command: '<%= config.bin %> events /run/vm1-events.qmp --event DEVICE_DELETED --count 1 --timeout 60',
    },
  ]

  static override args = { vm: vmArgument() }

  static override flags = {
    event: Flags.string({
      description: 'print only events of this name; may be given several times',
      helpValue: 'NAME',
      multiple: true,
    }),
    count: Flags.integer({ description: 'end after so many events', helpValue: 'N', min: 1 }),
  }

  protected override async execute(context: Context<typeof Events>): Promise<EventsResult> {
    const { args, flags, signal, trace, emit } = context
    const names = checkNames(flags.event ?? [])
    // --timeout is how long to listen; what QEMU answers at once has its own limits.
    const deadline = flags.timeout === undefined ? undefined : Date.now() + flags.timeout * 1000
    return await withVm(args.vm, { signal, trace }, async (vm) => {
      const stream = vm.qmp.events(({ event }) => names.size === 0 || names.has(event))
      for (let count = 0; ; count++) {
        if (count === flags.count) return { count }
        const event = await nextEvent(vm.name, stream, deadline, signal)
        if (event === undefined) return ended(count, flags.count)
        await emit(event, formatEvent(event))
      }
    })
  }

  protected override render(): string {
    return ''
  }
}

function checkNames(names: string[]): ReadonlySet<string> {
  const wrong = names.find((name) => !/^[A-Z][A-Z0-9_]*$/.test(name))
  if (wrong === undefined) return new Set(names)
  throw new VblkError('BAD_EVENT', ExitCode.Usage, `'${wrong}' is not the name of an event, like DEVICE_DELETED`)
}

/** The next event, or undefined when the time is over. Throws VblkError (exit code 3) when the VM has gone. */
async function nextEvent(name: string, stream: EventStream, deadline: number | undefined, signal: AbortSignal) {
  try {
    const timeoutMs = deadline === undefined ? undefined : Math.max(0, deadline - Date.now())
    return await stream.next({ timeoutMs, signal })
  } catch (error) {
    if (error instanceof QmpTimeoutError) return undefined
    if (error instanceof QmpConnectionLostError) {
      throw new VblkError('VM_GONE', ExitCode.NotFound, `${name}: its QEMU has ended`, { cause: error })
    }
    throw error
  }
}

function ended(count: number, wanted: number | undefined): EventsResult {
  if (wanted === undefined) return { count }
  throw new VblkError('TIMED_OUT', ExitCode.TimedOut, `${count} of ${wanted} events came in the time allowed`)
}

/** Like '2026-01-31T12:00:00.000Z STOP {}'. */
function formatEvent({ event, data, timestamp }: QmpEvent): string {
  const { seconds, microseconds } = timestamp
  const ms = Number(seconds) * 1000 + Math.floor(Number(microseconds) / 1000)
  // QEMU gives -1 when it could not read the clock, and a peer may give anything.
  const time = Number(seconds) >= 0 && Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : '-'
  return printable(
    `${time} ${event} ${JSON.stringify(data, (_, value) => (typeof value === 'bigint' ? `${value}` : value))}`,
  )
}
