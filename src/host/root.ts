// SPDX-License-Identifier: GPL-2.0-or-later
import { ExitCode, VblkError } from '../errors.ts'

/** @throws VblkError HostLacks for anybody but root, who alone can load and unload modules */
export function requireRoot(verb: string): void {
  if (process.geteuid?.() === 0) return
  throw new VblkError('NOT_ROOT', ExitCode.HostLacks, `only root can ${verb} kernel modules`, {
    hint: `sudo vblk module ${verb}`,
  })
}
