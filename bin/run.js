#!/usr/bin/env node
// SPDX-License-Identifier: GPL-2.0-or-later
import { fileURLToPath } from 'node:url'
import { requireNode } from './require-node.js'

requireNode(20, 19)
const root = fileURLToPath(new URL('..', import.meta.url))
if (process.argv[2] === '--version') {
  const { printVersion } = await import('./version.js')
  printVersion(root)
} else {
  const { loadBundle } = await import('./load-bundle.js')
  await loadBundle(root).run(root, async (argv) => {
    const { default: help } = await import('../dist/help.cjs')
    await help.printHelp(root, argv)
  })
}
