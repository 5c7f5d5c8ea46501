// SPDX-License-Identifier: GPL-2.0-or-later

import { Flags } from '@oclif/core'

/** The source's host knows the destination's; the other way round it must be said. */
export const peerFlag = () =>
  Flags.string({
    description: 'how this host reaches the other one by ssh, for a migration between two hosts',
    helpValue: '[USER@]HOST[:PORT]',
  })
