// SPDX-License-Identifier: GPL-2.0-or-later
import { table } from '../../src/ui/table.ts'
import type { Environment } from './run.ts'
import type { CaseResult } from './suite.ts'

const figures = (values: Record<string, number | string>) =>
  Object.entries(values)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')

function goal(result: CaseResult): string {
  if (!Object.keys(result.goals).length) return '-'
  const sign = result.better === 'higher' ? '≥' : '≤'
  const bounds = Object.entries(result.goals).map(([name, bound]) => `${name} ${sign} ${bound}`)
  return `${bounds.join(', ')}: ${result.met ? 'met' : 'NOT MET'}`
}

/** The results as a reader of a terminal wants them. */
export function renderResults(env: Environment, cases: CaseResult[]): string {
  const results = table(cases, [
    { header: 'CASE', value: (row) => row.case },
    { header: 'OURS', value: (row) => row.ours, align: 'right' },
    { header: 'UNIT', value: (row) => row.unit },
    { header: 'PEERS', value: (row) => figures(row.peers) || '-' },
    { header: 'OURS/PEER', value: (row) => figures(row.ratios) || '-' },
    { header: 'GOAL', value: goal },
  ])
  const notes = cases.flatMap((row) => [
    ...(row.details && Object.keys(row.details).length ? [`${row.case}: ${figures(row.details)}`] : []),
    ...(row.mode === env.mode ? [] : [`${row.case}: measured in ${row.mode} mode`]),
    ...(row.retries ? [`${row.case}: begun anew ${row.retries} times, the machine hung`] : []),
  ])
  const head = `QEMU ${env.qemu}, kernel ${env.kernel}, ${env.mode}, commit ${env.commit}`
  return [head, '', results, ...(notes.length ? ['', ...notes] : [])].join('\n')
}
