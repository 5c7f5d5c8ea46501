// SPDX-License-Identifier: GPL-2.0-or-later

import { pause } from '../../disk/pause.ts'
import { type CommandArguments, QmpCommandError } from '../../qmp/index.ts'
import type { Vm } from '../../vm/vm.ts'
import type { MigrationChannel } from '../channel.ts'
import { createChannel } from '../create-channel.ts'
import { hostOf } from '../hosts/host-of.ts'
import type { Journal } from '../journal/journal.ts'
import type { Sides } from '../options.ts'
import { OutcomeUnknownError } from '../outcome-unknown.ts'

const answerMs = 10_000
const noticeMs = 10_000
const pollMs = 100

/** Makes a new way for a VM's memory after the first was cut. The channel is for the caller to remove when the memory has come. */
export async function resumeStream(sides: Sides, journal: Journal): Promise<MigrationChannel> {
  const { source, destination } = sides
  if (hostOf(source) !== undefined) {
    throw new OutcomeUnknownError(
      `the rest of the VM's memory is at ${source.name}, and only that host's vblk can have it follow`,
      `on that host: vblk migrate recover ${journal.record.id}`,
      undefined,
    )
  }
  const channel = await createChannel(sides)
  try {
    // What can't be written leaves a folder at worst, and a guest waits.
    await journal.noteChannel(channel.dir).catch(() => {})
    await listenAgain(destination, channel.listenUri)
    await source.qmp.execute('migrate', { uri: channel.uri, resume: true }, { timeoutMs: answerMs })
    return channel
  } catch (error) {
    await channel.remove()
    throw error
  }
}

/** The destination may notice later than the source that the way was cut. */
async function listenAgain(destination: Vm, uri: string): Promise<void> {
  const deadline = Date.now() + noticeMs
  while (true) {
    try {
      await ahead(destination, 'migrate-recover', { uri })
      return
    } catch (error) {
      if (!(error instanceof QmpCommandError) || Date.now() > deadline) throw error
    }
    await pauseStream(destination)
    await pause(pollMs)
  }
}

/** Takes a way for cut that nothing comes through any more. A side that sees it so already refuses. */
export async function pauseStream(vm: Vm): Promise<void> {
  await ahead(vm, 'migrate-pause', {}).catch((error) => {
    if (!(error instanceof QmpCommandError)) throw error
  })
}

/** Out of band where that is possible: a destination that waits for a piece of memory answers nothing else. */
async function ahead<C extends 'migrate-recover' | 'migrate-pause'>(
  { qmp }: Vm,
  command: C,
  args: CommandArguments<C>,
): Promise<void> {
  const wait = { timeoutMs: answerMs }
  const [name, given] = [command as 'migrate-recover', args as CommandArguments<'migrate-recover'>]
  if (qmp.hasOutOfBand) await qmp.executeOutOfBand(name, given, wait)
  else await qmp.execute(name, given, wait)
}
