// SPDX-License-Identifier: GPL-2.0-or-later

/** What the kernel says when something is wrong with it; any of these in L1 or a guest is a fault of ours or of the lab's. */
const kernelFault =
  /WARNING: |BUG: |BUG at |Oops|general protection fault|Kernel panic|Call Trace:|UBSAN: |KASAN: |KCSAN: |possible (recursive|circular) locking|INFO: task .* blocked|soft lockup|hard LOCKUP|self-detected stall|detected stalls|Tainted: /

/** Lines of a kernel log that report a fault. */
export const kernelFaults = (log: string): string[] => log.split('\n').filter((line) => kernelFault.test(line))
