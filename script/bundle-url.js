// SPDX-License-Identifier: GPL-2.0-or-later
// What import.meta.url is in the bundle, which is CommonJS.
import { pathToFileURL } from 'node:url'

export const bundleUrl = pathToFileURL(__filename).href
