// SPDX-License-Identifier: GPL-2.0-or-later
// On the lab's own kernel.
import { conformance } from './conformance.ts'

conformance()
