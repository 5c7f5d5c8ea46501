// SPDX-License-Identifier: GPL-2.0-or-later
import { parseArgs } from 'node:util'
import { createProgress } from '../../src/ui/progress.ts'
import { pairs } from '../../src/ui/table.ts'
import { type Datapath, type DemoResult, runDemo } from './demo.ts'

const usage = `usage: npm run demo [-- [--datapath kernel|userspace] [--json]]

Attaches a disk to a running guest through the kernel, moves the guest to another QEMU under load, and detaches it.

  --datapath   which one serves the disk (default: kernel; userspace is the control)
  --json       one JSON document on stdout (call it as: npm run -s demo -- --json)`

function parse(): { datapath: Datapath; json: boolean } {
  const { values } = parseArgs({
    options: {
      datapath: { type: 'string', default: 'kernel' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) {
    process.stdout.write(`${usage}\n`)
    process.exit(0)
  }
  const { datapath, json } = values
  if (datapath !== 'kernel' && datapath !== 'userspace')
    throw new Error(`--datapath: '${datapath}' is neither kernel nor userspace`)
  return { datapath, json }
}

function render(result: DemoResult): string {
  const { attach, migration, sha256 } = result
  return pairs([
    ['QEMU', `${result.qemu.version}, as the distribution built it`],
    ['kernel', result.kernel.release],
    ['disk served by', `${migration.datapath.before} before the migration, ${migration.datapath.after} after it`],
    ['kernel requests', `${attach.kernelRequests} before, ${migration.kernelRequestsAfter} on the destination`],
    ['stopped before save', migration.backendStoppedBeforeSave ? 'yes, asked of QEMU and of the kernel' : 'NO'],
    ['downtime', `${migration.downtimeMs} ms, under emulation`],
    [
      'write cache',
      `${migration.writeCache.before} before, ${migration.writeCache.after} after (originally ${migration.writeCache.original})`,
    ],
    ['load', result.load.replace('vload: ', '')],
    ['guest A', sha256.guestSource],
    ['guest B', sha256.guestDestination],
    ['image', sha256.image],
    ['kernel warnings', result.kernelWarnings],
  ])
}

// The lab dies with this process; what is left to do is to end in the usual way.
for (const [signal, number] of [
  ['SIGINT', 2],
  ['SIGTERM', 15],
  ['SIGHUP', 1],
] as const)
  process.on(signal, () => process.exit(128 + number))

let json = process.argv.includes('--json')
const warnings: string[] = []
try {
  const request = parse()
  json = request.json
  const progress = createProgress({ quiet: false, verbose: false, warnings })
  const result = await runDemo(request.datapath, progress)
  process.stdout.write(json ? `${JSON.stringify({ ok: true, result, warnings })}\n` : `\n${render(result)}\n`)
} catch (error) {
  const { message } = error as Error
  const exitCode = (error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS') ? 2 : 1
  process.stderr.write(`demo: ${message}\n`)
  if (json) {
    const failure = { code: 'DEMO_FAILED', exitCode, message, hint: null }
    process.stdout.write(`${JSON.stringify({ ok: false, error: failure, warnings })}\n`)
  }
  process.exitCode = exitCode
}
