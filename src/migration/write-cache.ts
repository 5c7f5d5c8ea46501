// SPDX-License-Identifier: GPL-2.0-or-later

import type { DiskInfo } from '../disk/info.ts'

type WriteCaches = DiskInfo['writeCache']

/**
 * What is wrong with a disk's write cache on the destination, given what it was on the source; undefined if nothing is.
 * A device that can't tell (QEMU's own virtio-blk) also loses what the guest has chosen: it starts with its
 * property write-cache. Then only writethrough is safe for a guest that believes in writethrough.
 */
export function writeCacheFault(
  source: WriteCaches,
  destination: WriteCaches,
  destinationSetting: DiskInfo['writeCacheSetting'],
): string | undefined {
  if (destination.current === null) {
    if (source.current !== 'writethrough' || destinationSetting === 'writethrough') return undefined
    return "the guest's write cache is writethrough, and the destination's device would turn it to writeback"
  }
  if (source.current !== null && source.current !== destination.current) {
    return `the write cache is ${destination.current}, not ${source.current}`
  }
  return originalWriteCacheFault(source, destination)
}

/** The same for the write cache that a reset restores, which doesn't travel: it is the device's from its beginning. */
export function originalWriteCacheFault(source: WriteCaches, destination: WriteCaches): string | undefined {
  if (source.original === null || destination.original === null) return undefined
  if (source.original === destination.original) return undefined
  return `the original write cache is ${destination.original}, not ${source.original}`
}
