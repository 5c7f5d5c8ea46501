// SPDX-License-Identifier: GPL-2.0-or-later
import type { Lab } from './lab.ts'

export interface Envelope<T> {
  ok: boolean
  result?: T
  error?: { code: string; exitCode: number; message: string; hint: string | null; details?: Record<string, unknown> }
  warnings: string[]
}

export interface VblkOutcome<T> extends Envelope<T> {
  exitCode: number
  stderr: string
}

/**
 * Runs the installed vblk in L1 with --json, whatever comes of it.
 *
 * @throws Error if its stdout is not exactly one JSON document, or the envelope contradicts the exit code
 */
export async function tryVblk<T = unknown>(lab: Lab, argv: string[], timeoutMs = 180_000): Promise<VblkOutcome<T>> {
  const { exitCode, stdout, stderr } = await lab.exec(['vblk', ...argv, '--json'], { timeoutMs })
  let envelope: Envelope<T>
  try {
    envelope = JSON.parse(stdout) as Envelope<T>
  } catch {
    throw new Error(`vblk ${argv.join(' ')}: exit ${exitCode}, and stdout is no JSON: ${stdout}\n${stderr}`)
  }
  if (envelope.ok !== (exitCode === 0))
    throw new Error(`vblk ${argv.join(' ')}: exit ${exitCode} contradicts the envelope: ${stdout}`)
  return { ...envelope, exitCode, stderr }
}

/** Runs a vblk command that must succeed; returns its result. */
export async function vblk<T = unknown>(lab: Lab, argv: string[], timeoutMs?: number): Promise<T> {
  const outcome = await tryVblk<T>(lab, argv, timeoutMs)
  if (!outcome.ok) {
    const { message, hint, details } = outcome.error ?? {}
    const said = [
      `vblk ${argv.join(' ')}: exit ${outcome.exitCode}: ${message}`,
      hint,
      details && JSON.stringify(details),
    ]
    throw new Error([...said, outcome.stderr].filter(Boolean).join('\n'))
  }
  return outcome.result as T
}
