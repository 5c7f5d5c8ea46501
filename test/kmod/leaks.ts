// SPDX-License-Identifier: GPL-2.0-or-later
// What a kernel module can leave behind: counted before and after.
import type { Lab } from '../lab/lab.ts'
import { script } from './storage.ts'

export interface Held {
  /** Objects of the caches that bios come from. */
  bios: number
  /** Open files of the whole machine. */
  files: number
  /** Pages of the guest's that are pinned for I/O. */
  pins: number
  /** Memory that is the kernel's own, KiB. */
  kernelKib: number
  /** Regions of virtual memory that vhost_blk allocated. */
  regions: number
}

/** Counts what is held now, once the caches have given up what they only keep for later. */
export async function held(lab: Lab): Promise<Held> {
  const text = await script(
    lab,
    `sync
     for i in 1 2; do
       echo 3 >/proc/sys/vm/drop_caches
       for cache in /sys/kernel/slab/*/shrink; do echo 1 >"$cache"; done
       sleep 0.2
     done
     awk '/^bio-/ { n += $2 } END { print "bios", n }' /proc/slabinfo
     awk '{ print "files", $1 }' /proc/sys/fs/file-nr
     awk '/^nr_foll_pin_acquired/ { n += $2 } /^nr_foll_pin_released/ { n -= $2 } END { print "pins", n }' /proc/vmstat
     awk '/^SUnreclaim:/ { print "kernelKib", $2 }' /proc/meminfo
     echo regions $(grep -c vhost_blk /proc/vmallocinfo || true)`,
  )
  const counts = Object.fromEntries(text.split('\n').map((line) => line.split(' ')))
  const count = (name: string) => {
    const value = Number(counts[name])
    if (!Number.isFinite(value)) throw new Error(`${name} is not counted:\n${text}`)
    return value
  }
  return {
    bios: count('bios'),
    files: count('files'),
    pins: count('pins'),
    kernelKib: count('kernelKib'),
    regions: count('regions'),
  }
}
