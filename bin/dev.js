#!/usr/bin/env -S node --import tsx
// SPDX-License-Identifier: GPL-2.0-or-later
// Runs the commands from src, without a build: node --import tsx bin/dev.js COMMAND…
import { fileURLToPath } from 'node:url'
import { main } from '../src/ui/main.ts'
import { oclifCommands } from '../src/ui/oclif-commands.ts'

await main(() => oclifCommands(fileURLToPath(new URL('..', import.meta.url)), 'src'))
