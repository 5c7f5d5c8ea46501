// SPDX-License-Identifier: GPL-2.0-or-later

import type { Simulated } from './simulate.ts'

/** A history in words: what must not have happened, by which faults, and what went before. */
export function tell({ violations, faults, moments, circumstances, happened }: Simulated['violated'][number]): string {
  const struck = faults.map(({ kind, at }) => `${kind} at ${at} (${moments[at] ?? 'never reached'})`)
  const lines = [
    `faults: ${struck.join(', ')} ${JSON.stringify(circumstances)}`,
    ...happened.map((each) => `  ${each}`),
  ]
  return `${violations.join('\n')}\n${lines.join('\n')}\n`
}
