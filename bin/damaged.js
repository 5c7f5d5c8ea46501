// SPDX-License-Identifier: GPL-2.0-or-later

/** Ends the process, exit code 4, because of a file of this package: it is missing, can't be read, or is not what was installed. */
export function endDamaged(file, error) {
  const message = `this installation of vblk can't be used: ${file}: ${error.message}`
  const hint = error.code === 'EACCES' ? 'run it as a user who may read that file' : 'install vblk again'
  const end = process.argv.indexOf('--')
  if (process.argv.slice(2, end === -1 ? undefined : end).includes('--json')) {
    const details = { code: 'DAMAGED', exitCode: 4, message, hint }
    process.stdout.write(`${JSON.stringify({ ok: false, error: details, warnings: [] })}\n`)
  } else {
    process.stderr.write(`Error: ${message}\nHint: ${hint}\n`)
  }
  process.exit(4)
}
