// SPDX-License-Identifier: GPL-2.0-or-later
import { Flags } from '@oclif/core'

/** Node's timers overflow at 2^31 ms and then fire at once. */
const MOST_SECONDS = Math.floor((2 ** 31 - 1) / 1000)

/** A flag that takes a number of seconds above zero; fractions are allowed. */
export const secondsFlag = Flags.custom<number>({
  helpValue: 'SECONDS',
  parse: async (text) => {
    const seconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN
    if (!(seconds > 0 && seconds <= MOST_SECONDS)) {
      throw new Error(`expected a number of seconds above 0 and up to ${MOST_SECONDS}, not '${text}'`)
    }
    return seconds
  },
})
