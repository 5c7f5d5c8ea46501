#!/usr/bin/env node
// SPDX-License-Identifier: GPL-2.0-or-later
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { endDamaged } from './damaged.js'
import { requireNode } from './require-node.js'

requireNode(20, 19)
const root = fileURLToPath(new URL('..', import.meta.url))

/** Does what needs a file of the package. */
async function needing(file, work) {
  try {
    return await work(join(root, file))
  } catch (error) {
    return endDamaged(join(root, file), error)
  }
}

if (process.argv[2] === '--version') {
  const { printVersion } = await import('./version.js')
  printVersion(root)
} else {
  const { loadBundle } = await import('./load-bundle.js')
  const program = await needing('dist/vblk.cjs', () => loadBundle(root))
  await program.run(root, async (argv) => {
    // oclif would go on without it, and search for commands.
    await needing('oclif.manifest.json', (file) => JSON.parse(readFileSync(file, 'utf8')))
    const { default: help } = await needing('dist/help.cjs', (file) => import(file))
    await help.printHelp(root, argv)
  })
}
