// SPDX-License-Identifier: GPL-2.0-or-later
//   main.ts [--seed N] [--sample N|all] [--moments REGEXP]
// Ends at the first history in which something happened that must not: prints it, and exits 1.

import { parseArgs } from 'node:util'
import { simulate } from './simulate.ts'
import { tell } from './tell.ts'

const { values } = parseArgs({
  options: { seed: { type: 'string' }, sample: { type: 'string' }, moments: { type: 'string' } },
})
const { histories, violated } = await simulate({
  seed: Number(values.seed ?? 1),
  sample: values.sample === 'all' ? 'all' : Number(values.sample ?? 150),
  most: 1,
  ...(values.moments === undefined ? {} : { moments: new RegExp(values.moments) }),
})
process.stdout.write(`${violated.map(tell).join('')}${histories} histories\n`)
// Commands of those who have died still wait for their time-outs.
process.exit(violated.length > 0 ? 1 : 0)
