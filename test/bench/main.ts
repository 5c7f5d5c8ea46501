// SPDX-License-Identifier: GPL-2.0-or-later
import { parseArgs } from 'node:util'
import { profile, renderProfile } from './profile/profile.ts'
import { renderResults } from './render.ts'
import { runSuite } from './run.ts'
import { caseNames, type Suite } from './suite.ts'
import { cliSuite } from './suites/cli.ts'
import { deviceSuite } from './suites/device.ts'
import { kmodSuite } from './suites/kmod.ts'
import { migrateSuite } from './suites/migrate.ts'

const suites: Suite[] = [kmodSuite, deviceSuite, migrateSuite, cliSuite]

const usage = `usage: script/bench SUITE [--case NAME]… [--json]
       script/bench SUITE --profile [--case NAME]… [--json]

Measures in the lab, cli on this machine; docs/bench.md tells how. Suites:

${suites.map(({ name, title }) => `  ${name.padEnd(8)} ${title}`).join('\n')}

  --case NAME  this case alone; may be given more than once
  --json       one JSON document on stdout
  --profile    where the instructions of a request go, by function, instead of the cases
  --list       the names of the cases`

class UsageError extends Error {}

const options = {
  case: { type: 'string', multiple: true, default: [] as string[] },
  json: { type: 'boolean', default: false },
  profile: { type: 'boolean', default: false },
  list: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
} as const

function parse(argv: string[]) {
  try {
    return parseArgs({ args: argv, options, allowPositionals: true })
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

function find(name: string | undefined): Suite {
  const names = suites.map((suite) => suite.name).join(', ')
  if (!name) throw new UsageError(`which suite? There is ${names}`)
  const suite = suites.find((candidate) => candidate.name === name)
  if (!suite) throw new UsageError(`unknown suite '${name}'; there is ${names}`)
  return suite
}

const report = (line: string) => process.stderr.write(`${line}\n`)
const print = (text: string) => process.stdout.write(`${text}\n`)
const failed = (exitCode: number, message: string) => ({
  ok: false,
  error: { code: exitCode === 2 ? 'usage' : 'failed', exitCode, message, hint: null },
  warnings: [],
})
const printJson = (envelope: unknown) => print(JSON.stringify(envelope))

async function main(argv: string[]): Promise<number> {
  const { values, positionals } = parse(argv)
  if (values.help) {
    print(usage)
    return 0
  }
  const suite = find(positionals[0])
  if (positionals.length > 1) throw new UsageError(`unexpected '${positionals[1]}'`)
  const known = values.profile ? (suite.profiled ?? []).map((load) => load.name) : caseNames(suite)
  if (values.list) {
    print(known.join('\n'))
    return 0
  }
  if (!known.length) throw new UsageError(`suite ${suite.name} has nothing to profile`)
  const unknown = values.case.find((name) => !known.includes(name))
  if (unknown !== undefined) throw new UsageError(`unknown case '${unknown}'; there is ${known.join(', ')}`)
  if (values.profile) {
    const profiles = await profile(suite, values.case, { report })
    if (values.json) printJson({ ok: true, result: { profiles }, warnings: [] })
    else print(profiles.map(renderProfile).join('\n\n'))
    return 0
  }
  const { failures, ...result } = await runSuite(suite, values.case, { report })
  if (!values.json) print(renderResults(result.env, result.cases))
  else if (failures.length) printJson({ ...failed(1, failures.join('\n')), result })
  else printJson({ ok: true, result, warnings: [] })
  return failures.length ? 1 : 0
}

const argv = process.argv.slice(2)
try {
  process.exitCode = await main(argv)
} catch (error) {
  const exitCode = error instanceof UsageError ? 2 : 1
  const message = (error as Error).message
  report(`bench: ${message}`)
  if (argv.includes('--json')) printJson(failed(exitCode, message))
  process.exitCode = exitCode
}
