// SPDX-License-Identifier: GPL-2.0-or-later

import path from 'node:path'
import { parseAddress } from '../../vm/address.ts'

/** The name of a VM that a record keeps: one that means the same from every folder. Throws what parseAddress throws. */
export function partyName(name: string): string {
  const address = parseAddress(name)
  return address?.kind === 'unix' ? path.resolve(address.path) : name
}
