// SPDX-License-Identifier: GPL-2.0-or-later
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'
import { packageRoot } from '../../../src/host/paths.ts'

/** Runs bin/run.js by a Node that says it has another version. */
function runAs(version: string) {
  const pretend = `Object.defineProperty(process,'versions',{value:{...process.versions,node:'${version}'}})`
  const args = [
    '--import',
    `data:text/javascript,${encodeURIComponent(pretend)}`,
    join(packageRoot, 'bin/run.js'),
    '--version',
  ]
  return spawnSync(process.execPath, args, { encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '' } })
}

test.each(['12.22.12', '18.20.4', '20.18.3'])('Node %s is told to be too old in one line', (version) => {
  const { status, stdout, stderr } = runAs(version)
  expect({ status, stdout, stderr }).toEqual({
    status: 4,
    stdout: '',
    stderr: `Error: vblk needs Node 20.19 or newer, and this is ${version}\n`,
  })
})

test.each(['20.19.0', '22.1.0', '24.0.0'])('Node %s is not', (version) => {
  expect(runAs(version).stderr).not.toContain('vblk needs Node')
})
