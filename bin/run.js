#!/usr/bin/env node
// SPDX-License-Identifier: GPL-2.0-or-later
import { fileURLToPath } from 'node:url'
import { requireNode } from './require-node.js'

requireNode(20, 19)
const { main } = await import('../dist/ui/main.js')
await main(fileURLToPath(new URL('..', import.meta.url)), 'dist')
