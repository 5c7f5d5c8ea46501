// SPDX-License-Identifier: GPL-2.0-or-later

/** Ends the process with one line if this Node is older; must itself run on old ones. */
export function requireNode(major, minor) {
  const parts = process.versions.node.split('.').map(Number)
  if (parts[0] > major || (parts[0] === major && parts[1] >= minor)) return
  process.stderr.write(`Error: vblk needs Node ${major}.${minor} or newer, and this is ${process.versions.node}\n`)
  process.exit(4)
}
