// SPDX-License-Identifier: GPL-2.0-or-later
import { run } from './run.ts'

/**
 * The Debian mirror that this machine's apt is configured with.
 *
 * @throws Error if apt knows no source whose origin and label are Debian's
 */
export async function aptMirror(): Promise<string> {
  const targets = await run('apt-get', [
    'indextargets',
    '--format',
    '$(REPO_URI) $(CODENAME) $(ORIGIN)/$(LABEL)',
    'Created-By: Packages',
  ])
  for (const line of targets.split('\n')) {
    const [uri, , source] = line.split(' ')
    if (uri && source === 'Debian/Debian') return uri
  }
  throw new Error("this machine's apt has no Debian archive configured (or 'apt-get update' has never run)")
}
