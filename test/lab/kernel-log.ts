// SPDX-License-Identifier: GPL-2.0-or-later

/** What the kernel says when something is wrong with it; any of these in L1 or a guest is a fault of ours or of the lab's. */
const kernelFault =
  /WARNING: |BUG: |BUG at |Oops|general protection fault|Kernel panic|Call Trace:|UBSAN: |KASAN: |KCSAN: |possible (recursive|circular) locking|INFO: task .* blocked|soft lockup|hard LOCKUP|self-detected stall|detected stalls|Tainted: /

const race = /BUG: KCSAN: /
const reportEnd = /={20,}\s*$/
/** The line before the stack of one of the two accesses. */
const access = / of \d+ bytes by .* on cpu \d+:\s*$/

/** Whether one of a race's two accesses is made by our module: KCSAN watches the whole kernel, which has races of its own. */
const isOurs = (report: string[]): boolean =>
  report.some((line, i) => access.test(line) && report[i + 1]?.includes('[vhost_blk]'))

/** What a report goes on with: where the processor was, and how it came there. */
const traceLine = /\bR?IP: |<\/?(TASK|IRQ|NMI|SOFTIRQ)>|\+0x[0-9a-f]+\/0x[0-9a-f]+/

/** Lines of a kernel log that report a fault, with the stacks that follow them. */
export function kernelFaults(log: string): string[] {
  const faults: string[] = []
  let isReport = false
  const lines = log.split('\n')
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i] as string
    if (race.test(line)) {
      const end = lines.findIndex((one, k) => k > i && reportEnd.test(one))
      const report = lines.slice(i, end < 0 ? undefined : end)
      if (isOurs(report)) faults.push(...report)
      i += report.length
    } else if (kernelFault.test(line)) {
      faults.push(line)
      isReport = true
    } else if (isReport && traceLine.test(line)) faults.push(line)
  }
  return faults
}
